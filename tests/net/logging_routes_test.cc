#include "net/logging_routes.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/log.h"

namespace holdfast::net {
namespace {

using base::LogLevel;

class LoggingRoutesTest : public ::testing::Test {
 protected:
  LoggingRoutesTest() { AddLoggingRoutes(&routes_); }
  ~LoggingRoutesTest() override { base::SetLogLevel(LogLevel::kInfo); }

  AdminResponse Ask(HttpMethod method, std::map<std::string, std::string> query = {}) {
    for (const AdminRoute& route : routes_) {
      if (route.method == method)
        return route.handler({.method = method, .path = "/logging", .query = std::move(query)});
    }
    return {.status = 405};
  }

  std::vector<AdminRoute> routes_;
};

TEST_F(LoggingRoutesTest, LevelsAreListedByPart) {
  const AdminResponse listed = Ask(HttpMethod::kGet);
  EXPECT_NE(listed.body.find("forward: info\n"), std::string::npos) << listed.body;
  EXPECT_NE(listed.body.find("spool: info\n"), std::string::npos) << listed.body;
}

TEST_F(LoggingRoutesTest, ALevelIsSetForAllPartsAndThenForSome) {
  const AdminResponse set = Ask(HttpMethod::kPost, {{"level", "warn"}, {"forward", "debug"}});
  EXPECT_EQ(set.status, 200);
  EXPECT_NE(set.body.find("forward: debug\n"), std::string::npos) << set.body;
  EXPECT_NE(set.body.find("spool: warn\n"), std::string::npos) << set.body;
  EXPECT_TRUE(base::LogEnabled(LogLevel::kDebug, "forward"));
  EXPECT_FALSE(base::LogEnabled(LogLevel::kInfo, "spool"));
}

TEST_F(LoggingRoutesTest, WhatIsNotKnownChangesNothing) {
  for (const auto& [part, level] : std::map<std::string, std::string>{
           {"forwart", "debug"}, {"level", "loud"}, {"spool", ""}, {"upstream", "DEBUG"}}) {
    const AdminResponse refused =
        Ask(HttpMethod::kPost, {{"agent", "debug"}, {part, level}, {"zzz", "info"}});
    EXPECT_EQ(refused.status, 400) << part;
    EXPECT_FALSE(base::LogEnabled(LogLevel::kDebug, "agent")) << part;
  }
  EXPECT_EQ(Ask(HttpMethod::kPost).status, 400);
}

}  // namespace
}  // namespace holdfast::net
