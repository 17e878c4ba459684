// The page for people at `/` of the admin port: cli/page/page.{html,css,js}, put into one file by
// CMake and kept in the binary. It loads nothing from elsewhere, and its Content-Security-Policy
// lets it run only its own script (by its SHA-256) and ask only the server that it comes from, so
// that a topic's name cannot become code.
//
// It asks /overview, which is a role's own.
//
// Threads: any.
#pragma once

#include <string_view>

#include "cli/role.h"
#include "net/admin_server.h"

namespace holdfast::cli {

net::AdminRoute StatusPageRoute();
// The settings that the page shows. `controls` outlive it.
net::AdminRoute ConfigRoute(const Controls& controls);

// Made at build time; for StatusPageRoute. Hashes as a Content-Security-Policy has them.
struct StatusPageText {
  std::string_view html;
  std::string_view script_hash;
  std::string_view style_hash;
};
StatusPageText GetStatusPageText();

}  // namespace holdfast::cli
