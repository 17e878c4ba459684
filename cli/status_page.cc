#include "cli/status_page.h"

#include <fmt/format.h>

#include <string>

namespace holdfast::cli {

net::AdminRoute StatusPageRoute() {
  const StatusPageText text = GetStatusPageText();
  std::string policy = fmt::format(
      "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      text.script_hash, text.style_hash);
  return {net::HttpMethod::kGet, "/", "the status page, for people",
          [text, policy = std::move(policy)](const net::AdminRequest&) {
            return net::AdminResponse{.content_type = "text/html; charset=utf-8",
                                      .body = std::string(text.html),
                                      .headers = {{"Content-Security-Policy", policy},
                                                  {"Referrer-Policy", "no-referrer"}}};
          }};
}

net::AdminRoute ConfigRoute(const Controls& controls) {
  return {net::HttpMethod::kGet, "/config", "the settings in effect, without secrets",
          [&controls](const net::AdminRequest&) {
            return net::AdminResponse{.content_type = "application/json",
                                      .body = controls.print_config()};
          }};
}

}  // namespace holdfast::cli
