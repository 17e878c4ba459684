#include "inject/api_server.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "inject/json_access.h"
#include "net/url_fetch.h"

namespace holdfast::inject {
namespace {

using base::Code;
using nlohmann::json;

constexpr int kUnauthorized = 401;

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

base::Result<ApiServer> ApiServer::Of(Options options) {
  if (options.server.empty()) {
    std::string host = Variable("KUBERNETES_SERVICE_HOST");
    const std::string port = Variable("KUBERNETES_SERVICE_PORT");
    if (host.empty() || port.empty()) {
      return base::Unexpected(Code::kInvalid,
                              "this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT "
                              "are not set; give --server");
    }
    if (host.find(':') != std::string::npos) host = "[" + host + "]";
    options.server = fmt::format("https://{}:{}", host, port);
  }
  return ApiServer(std::move(options));
}

base::Result<ApiServer::Answer> ApiServer::Ask(const std::string& method, const std::string& path,
                                               const json& body, const std::string& type) const {
  // Each time: it is exchanged while a pod lives.
  std::ifstream in(options_.token_file, std::ios::binary);
  if (!in) return base::Unexpected(base::ErrnoError("cannot read " + options_.token_file, errno));
  std::string token{std::istreambuf_iterator<char>(in), {}};
  while (token.ends_with('\n')) token.pop_back();
  net::FetchOptions options{
      .ca_location = options_.ca_file,
      .timeout = std::chrono::seconds(30),
      .bytes_max = size_t{8} << 20,
      .method = method,
      .headers = {"Authorization: Bearer " + token, "Accept: application/json"},
      .redirections_max = 0};
  if (!type.empty()) {
    options.body = body.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
    options.headers.push_back("Content-Type: " + type);
  }
  HF_ASSIGN_OR_RETURN(const net::Fetched fetched, net::AskUrl(options_.server + path, options));
  return Answer{fetched.status, ParseJson(fetched.body).value_or(json(fetched.body))};
}

base::Error Refusal(const std::string& what, const ApiServer::Answer& answer) {
  std::string_view message = TextOf(answer.body, "message");
  if (message.empty() && answer.body.is_string())
    message = answer.body.get_ref<const std::string&>();
  if (message.empty()) message = "no reason";
  const char* const hint = answer.status == kUnauthorized ? " (is the token of this cluster?)" : "";
  return {Code::kUnavailable, fmt::format("cannot {}: the API server says {}: {}{}", what,
                                          answer.status, message.substr(0, 1000), hint)};
}

}  // namespace holdfast::inject
