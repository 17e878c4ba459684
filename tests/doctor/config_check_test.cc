#include "cli/doctor/config_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/config.h"
#include "config/holdfast.pb.h"
#include "tests/doctor/finding_matchers.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using Problems = std::vector<Event>;

class ConfigCheckTest : public testing::Test {
 protected:
  ConfigCheckTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   ("holdfast-config-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(directory_);
  }
  ~ConfigCheckTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text, mode_t mode) {
    const std::string path = (directory_ / name).string();
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  Findings Check(const std::string& yaml, CgroupLimits limits = {}, mode_t mode = 0600) {
    const std::string file = Write("holdfast.yaml", yaml, mode);
    config::Sources sources{.file = file};
    const auto config = config::Load(sources);
    sources.references = config::References::kKeep;
    const auto written = config::Load(sources);
    EXPECT_TRUE(config && written) << (config ? "" : config.error().message);
    return CheckConfig({.config = **config, .written = **written, .file = file, .limits = limits});
  }

  static std::string Agent(const std::string& more) {
    return "agent:\n  listen: ['127.0.0.1:9092']\n  spool: {directory: s}\n" + more;
  }
  static std::string Upstream(const std::string& properties) {
    return "  upstream: {bootstrap: ['k:9092'], properties: {" + properties + "}}\n";
  }

  const std::filesystem::path directory_;
};

TEST_F(ConfigCheckTest, SegmentsOfASmallSpoolAreSmall) {
  const Findings findings =
      Check("agent:\n  listen: ['127.0.0.1:9092']\n  spool: {directory: s, bytes_max: 88MiB}\n" +
            Upstream(""));
  EXPECT_EQ(findings.CountOf(Severity::kNote), 0u);
}

TEST_F(ConfigCheckTest, ACompleteConfigurationIsGood) {
  const auto findings = Check(Agent(Upstream("")));
  EXPECT_EQ(ProblemsOf(findings), Problems{});
  EXPECT_EQ(findings.all()[0].what, "the settings of agent are complete");
}

TEST_F(ConfigCheckTest, WhatIsMissingIsNamed) {
  const auto findings = Check(Agent(""));
  const Finding* const finding = Find(findings, Event::kConfigIncomplete);
  ASSERT_NE(finding, nullptr);
  EXPECT_THAT(finding->what, HasSubstr("agent.upstream.bootstrap is not set"));
  EXPECT_EQ(ProblemsOf(Check("log: {level: info}\n")), Problems{Event::kConfigIncomplete});
}

TEST_F(ConfigCheckTest, OpenListenersAreSeen) {
  const std::string agent =
      "agent:\n  listen: ['0.0.0.0:9092']\n  spool: {directory: s}\n"
      "  access: {open_listeners: true}\n" +
      Upstream("");
  EXPECT_EQ(ProblemsOf(Check(agent)), Problems{Event::kOpenListener});
  const std::string broker = "broker:\n  listen: '0.0.0.0:9092'\n  data: {directory: d}\n";
  EXPECT_EQ(ProblemsOf(Check(broker)), Problems{Event::kOpenListener});
  EXPECT_EQ(ProblemsOf(Check(broker + "  sasl: {mechanisms: [SCRAM-SHA-256]}\n")), Problems{});
  EXPECT_EQ(ProblemsOf(Check(broker + "  sasl: {mechanisms: [PLAIN]}\n")),
            Problems{Event::kPasswordInTheClear});
}

TEST_F(ConfigCheckTest, LimitsAreComparedWithWhatTheProcessMayUse) {
  const std::string agent = Agent(Upstream(""));
  EXPECT_EQ(ProblemsOf(Check(agent, {.memory_bytes_max = uint64_t{1} << 30})), Problems{});
  EXPECT_EQ(ProblemsOf(Check(agent, {.memory_bytes_max = uint64_t{128} << 20})),
            Problems{Event::kMemoryAboveLimit});
}

TEST_F(ConfigCheckTest, NothingKeptFreeIsSeen) {
  EXPECT_EQ(ProblemsOf(Check("broker:\n  listen: '127.0.0.1:9092'\n"
                             "  data: {directory: d, free_bytes_min: 0}\n")),
            Problems{Event::kNoFreeBytesKept});
}

TEST_F(ConfigCheckTest, ASecretThatEverybodyMayReadIsSeenWhereverItStands) {
  const std::string plain = Agent(Upstream(
      "security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: u, sasl.password: p"));
  EXPECT_EQ(ProblemsOf(Check(plain)), Problems{});
  EXPECT_EQ(ProblemsOf(Check(plain, {}, 0644)), Problems{Event::kSecretReadable});
  const std::string apart = Agent(Upstream(
      "security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: u, sasl.password: {file: "
      "password}"));
  Write("password", "p", 0640);
  EXPECT_EQ(ProblemsOf(Check(apart, {}, 0644)), Problems{});
  Write("password", "p", 0644);
  const auto findings = Check(apart, {}, 0644);
  const Finding* const finding = Find(findings, Event::kSecretReadable);
  ASSERT_NE(finding, nullptr);
  EXPECT_THAT(finding->what, HasSubstr((directory_ / "password").string()));
}

TEST_F(ConfigCheckTest, PasswordsInTheClearAndPeersThatAreNotCheckedAreSeen) {
  EXPECT_THAT(ProblemsOf(Check(
                  Agent(Upstream("security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN")))),
              Contains(Event::kPasswordInTheClear));
  EXPECT_THAT(ProblemsOf(Check(Agent(
                  Upstream("security.protocol: SASL_PLAINTEXT, sasl.mechanism: SCRAM-SHA-256")))),
              Not(Contains(Event::kPasswordInTheClear)));
  EXPECT_THAT(ProblemsOf(Check(Agent(Upstream(
                  "security.protocol: SSL, ssl.endpoint.identification.algorithm: none")))),
              Contains(Event::kPeerNotChecked));
}

}  // namespace
}  // namespace holdfast::cli::doctor
