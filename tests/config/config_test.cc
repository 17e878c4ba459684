#include "config/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "config/changes.h"
#include "config/holdfast.pb.h"
#include "config/value.h"

namespace holdfast::config {
namespace {

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    std::string pattern = testing::TempDir() + "holdfast-config-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~ConfigTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
    return directory_ + "/" + name;
  }
  // Loads the text as a file.
  base::Result<std::shared_ptr<const Config>> LoadText(const std::string& text) {
    return Load({.file = Write("holdfast.yaml", text)});
  }
  // The message of the error, without the directory before the file's name.
  std::string ErrorOf(const base::Result<std::shared_ptr<const Config>>& result) {
    if (result) return "(no error)";
    EXPECT_EQ(result.error().code, base::Code::kInvalid);
    std::string message = result.error().message;
    for (size_t at; (at = message.find(directory_ + "/")) != std::string::npos;)
      message.erase(at, directory_.size() + 1);
    return message;
  }
  std::string ErrorOf(const std::string& text) { return ErrorOf(LoadText(text)); }
  std::string ErrorOfSetting(const std::string& key, const std::string& value) {
    return ErrorOf(Load({.sets = {{key, value, "--set"}}}));
  }

  std::string directory_;
};

TEST_F(ConfigTest, ReadsAFile) {
  const auto config = LoadText(R"(
agent:
  listen: [127.0.0.1:9092, "[::1]:9092"]
  upstream:
    bootstrap: kafka-1:9092,kafka-2:9092
  spool: {directory: /var/spool/holdfast, segment_bytes: 64MiB, bytes_max: 20GiB}
  topics:
    - {name: orders, partitions: 12}
    - name: audit.log
  drain_timeout_ms: 30s
broker:
  auto_create_topics: false
log:
  level: debug
)");
  ASSERT_TRUE(config) << config.error().message;
  const Agent& agent = (*config)->agent();
  ASSERT_EQ(agent.listen_size(), 2);
  EXPECT_EQ(agent.listen(1), "[::1]:9092");
  ASSERT_EQ(agent.upstream().bootstrap_size(), 2);
  EXPECT_EQ(agent.upstream().bootstrap(1), "kafka-2:9092");
  EXPECT_EQ(agent.spool().segment_bytes(), 64u << 20);
  EXPECT_EQ(agent.spool().bytes_max(), uint64_t{20} << 30);
  ASSERT_EQ(agent.topics_size(), 2);
  EXPECT_EQ(agent.topics(0).partitions(), 12);
  EXPECT_EQ(agent.topics(1).name(), "audit.log");
  EXPECT_EQ(agent.topics(1).partitions(), 1);
  EXPECT_EQ(agent.drain_timeout_ms(), 30000u);
  EXPECT_FALSE((*config)->broker().auto_create_topics());
  EXPECT_EQ((*config)->log().level(), Log::debug);
}

TEST_F(ConfigTest, AnEmptyFileLeavesTheDefaults) {
  for (const char* text : {"", "# nothing\n", "agent:\n"}) {
    const auto config = LoadText(text);
    ASSERT_TRUE(config) << text << config.error().message;
    EXPECT_EQ((*config)->agent().spool().segment_bytes(), 256u << 20);
  }
}

TEST_F(ConfigTest, LaterSourcesWin) {
  const std::string file = Write("holdfast.yaml", "broker: {num_partitions: 2, node_id: 2}\n");
  Sources sources{.defaults = {{"broker.num_partitions", "1", "default"},
                               {"broker.node_id", "1", "default"},
                               {"broker.listen", "127.0.0.1:1", "default"},
                               {"agent.listen", "127.0.0.1:1", "default"}},
                  .file = file,
                  .environment = {"HOLDFAST__BROKER__NUM_PARTITIONS=3", "HOME=/root",
                                  "HOLDFAST__AGENT__LISTEN=127.0.0.1:2,127.0.0.1:3"},
                  .sets = {{"broker.num_partitions", "4", "--set"}}};
  const auto config = Load(sources);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*config)->broker().num_partitions(), 4);
  EXPECT_EQ((*config)->broker().node_id(), 2);
  EXPECT_EQ((*config)->broker().listen(), "127.0.0.1:1");
  ASSERT_EQ((*config)->agent().listen_size(), 2);  // A list replaces the one before it.
  EXPECT_EQ((*config)->agent().listen(0), "127.0.0.1:2");
}

TEST_F(ConfigTest, ListsInOneTextMayHaveBlanks) {
  const auto config = LoadText(
      "agent:\n"
      "  listen: 127.0.0.1:2 , 127.0.0.1:3\n"
      "  access: {rules: [{principal: \"User:*\", operations: \"produce, consume\"}]}\n");
  ASSERT_TRUE(config) << config.error().message;
  const Agent& agent = (*config)->agent();
  ASSERT_EQ(agent.listen_size(), 2);
  EXPECT_EQ(agent.listen(0), "127.0.0.1:2");
  EXPECT_EQ(agent.listen(1), "127.0.0.1:3");
  EXPECT_EQ(agent.access().rules(0).operations_size(), 2);
}

TEST_F(ConfigTest, SettingsTakeListsAndMapsAsYaml) {
  const auto config = Load({.sets = {{"agent.topics", "[{name: orders, partitions: 3}]", "--set"},
                                     {"agent.spool", "{directory: d}", "--set"},
                                     {"agent.upstream.bootstrap", "[a:1, b:2]", "--set"}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*config)->agent().topics(0).partitions(), 3);
  EXPECT_EQ((*config)->agent().spool().directory(), "d");
  EXPECT_EQ((*config)->agent().upstream().bootstrap_size(), 2);
}

TEST_F(ConfigTest, TextComesFromEnvironmentVariablesAndFiles) {
  Write("host", "example.org\n");
  setenv("CONFIG_TEST_DIRECTORY", "/var/spool/x", 1);
  const auto config = LoadText(
      "agent:\n"
      "  advertised_host: {file: host}\n"
      "  spool: {directory: {env: CONFIG_TEST_DIRECTORY}}\n");
  unsetenv("CONFIG_TEST_DIRECTORY");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*config)->agent().advertised_host(), "example.org");
  EXPECT_EQ((*config)->agent().spool().directory(), "/var/spool/x");
}

TEST_F(ConfigTest, AnUnknownKeyIsAnErrorThatNamesTheNearestKnownOne) {
  EXPECT_EQ(ErrorOf("agent:\n  lisen: [a:1]\n"),
            "holdfast.yaml:2:3: unknown key \"agent.lisen\"; did you mean \"agent.listen\"?");
  EXPECT_EQ(ErrorOf("agent:\n  spool:\n    dierctory: x\n"),
            "holdfast.yaml:3:5: unknown key \"agent.spool.dierctory\"; did you mean "
            "\"agent.spool.directory\"?");
  EXPECT_EQ(ErrorOf("segment_bytes: 1MiB\n"),
            "holdfast.yaml:1:1: unknown key \"segment_bytes\"; did you mean "
            "\"agent.spool.segment_bytes\"?");
  EXPECT_EQ(ErrorOf("log:\n  colour: red\n"),
            "holdfast.yaml:2:3: unknown key \"log.colour\"; the keys here are level, format");
  EXPECT_EQ(ErrorOf("agent:\n  topics:\n    - name: a\n    - nme: b\n"),
            "holdfast.yaml:4:7: unknown key \"agent.topics[1].nme\"; did you mean "
            "\"agent.topics[1].name\"?");
}

TEST_F(ConfigTest, AWrongValueIsAnErrorThatSaysWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {
      {"agent: {spool: {segment_bytes: lots}}",
       "1:32: agent.spool.segment_bytes is \"lots\", and must be a size such as 256MiB"},
      {"agent: {spool: {segment_bytes: 10}}",
       "1:32: agent.spool.segment_bytes is 10, and must be between 1MiB and 2GiB"},
      {"agent: {spool: {free_bytes_min: -1}}",
       "1:33: agent.spool.free_bytes_min is -1, and must be at least 0"},
      {"agent: {drain_timeout_ms: 3 weeks}",
       "1:27: agent.drain_timeout_ms is \"3 weeks\", and must be a duration such as 30s"},
      {"agent: {workers: many}", "1:18: agent.workers is \"many\", and must be a whole number"},
      {"agent: {workers: 65}", "1:18: agent.workers is 65, and must be between 0 and 64"},
      {"broker: {node_id: 2147483648}",
       "1:19: broker.node_id is 2147483648, and must be between 0 and 2147483647"},
      {"broker: {groups: {consumer: {size_max: 2147483648}}}",
       "1:40: broker.groups.consumer.size_max is 2147483648, and must be between 1 and 2147483647"},
      {"broker: {auto_create_topics: maybe}",
       "1:30: broker.auto_create_topics is \"maybe\", and must be true or false"},
      {"log: {level: loud}",
       "1:14: log.level is \"loud\", and must be one of debug, info, warn, error"},
      {"broker: {listen: localhost}",
       "1:18: broker.listen is \"localhost\", and must be HOST:PORT, such as 127.0.0.1:9092 or "
       "[::1]:9092"},
      {"agent: {listen: [a:1, 'b:70000']}",
       "1:23: agent.listen[1] is \"b:70000\", and must be HOST:PORT, such as 127.0.0.1:9092 or "
       "[::1]:9092"},
      {"agent: {topics: [{name: 'a b'}]}",
       "1:25: agent.topics[0].name is \"a b\", and must be 1 to 249 letters, digits, dots, "
       "underscores and hyphens"},
      {"agent: {topics: orders}", "1:17: agent.topics must be a list"},
      {"agent: {listen: {a: b}}", "1:17: agent.listen must be text, {env: NAME} or {file: PATH}"},
      {"log: {level: }", "1:14: log.level has no value"},
      {"log: {level: [debug]}", "1:14: log.level must be a single value"},
      {"log: debug", "1:6: log must be a map with the keys level, format"},
      {"[1]", "1:1: the configuration must be a map with the keys log, agent, broker, dev, inject"},
      {"log: {level: info, level: warn}", "1:20: log.level is given twice"},
      {"agent: {spool: {directory: {env: CONFIG_TEST_NOT_SET}}}",
       "1:28: agent.spool.directory: the environment variable CONFIG_TEST_NOT_SET is not set"},
      {"agent: {spool: {directory: {file: gone}}}",
       "1:28: agent.spool.directory: cannot read gone: No such file or directory"},
  };
  for (const auto& [text, expected] : cases)
    EXPECT_EQ(ErrorOf(std::string(text)), std::string("holdfast.yaml:") + expected) << text;
}

TEST_F(ConfigTest, BrokenYamlNamesThePlace) {
  EXPECT_EQ(ErrorOf("agent:\n  listen: [a:1\nbroker: x\n").substr(0, 32),
            "holdfast.yaml:3:7: not YAML: end");
}

TEST_F(ConfigTest, EveryMistakeIsReported) {
  EXPECT_EQ(ErrorOf("log:\n  level: loud\n  fromat: json\n"),
            "holdfast.yaml:2:10: log.level is \"loud\", and must be one of debug, info, warn, "
            "error\n"
            "holdfast.yaml:3:3: unknown key \"log.fromat\"; did you mean \"log.format\"?");
}

TEST_F(ConfigTest, AMissingFileIsAnError) {
  EXPECT_EQ(ErrorOf(Load({.file = directory_ + "/gone.yaml"})),
            "cannot read gone.yaml: No such file or directory");
}

TEST_F(ConfigTest, WrongSettingsNameTheirOrigin) {
  EXPECT_EQ(ErrorOfSetting("agent.lisen", "a:1"),
            "--set: unknown key \"agent.lisen\"; did you mean \"agent.listen\"?");
  EXPECT_EQ(ErrorOfSetting("log.level.x", "a"),
            "--set: log.level is a value and has no keys below it");
  EXPECT_EQ(ErrorOfSetting("agent.topics.name", "a"),
            "--set: agent.topics is a list: set it as a whole");
  EXPECT_EQ(ErrorOfSetting("agent.topics", "[{name: a"),
            "--set: agent.topics is not YAML: end of map flow not found");
  EXPECT_EQ(ErrorOfSetting("log", "x"), "--set: log must be a map with the keys level, format");
  EXPECT_EQ(ErrorOfSetting("", "x"), "--set: \"\" is not a key");
  EXPECT_EQ(ErrorOf(Load({.environment = {"HOLDFAST__LOG__LEVEL=loud"}})),
            "HOLDFAST__LOG__LEVEL: log.level is \"loud\", and must be one of debug, info, warn, "
            "error");
}

TEST_F(ConfigTest, KafkasPropertiesComeFromAllSources) {
  const std::string file = Write("holdfast.yaml", R"(
agent:
  upstream:
    properties:
      security.protocol: sasl_ssl
      ssl.ca.location: /etc/ca.pem
      sasl.username: from the file
      sasl.password: {file: password}
)");
  Write("password", "{a: secret}\n");
  const auto config = Load(
      {.file = file,
       .environment = {"HOLDFAST__AGENT__UPSTREAM__PROPERTIES__SASL__USERNAME=of the environment"},
       .sets = {{"agent.upstream.properties.sasl.mechanism", "PLAIN", "--set"},
                {"agent.upstream.properties", "{ssl.ca.location: other.pem}", "--set"}}});
  ASSERT_TRUE(config) << config.error().message;
  const auto& properties = (*config)->agent().upstream().properties();
  EXPECT_EQ(properties.size(), 5);
  EXPECT_EQ(properties.at("security.protocol"), "sasl_ssl");
  EXPECT_EQ(properties.at("ssl.ca.location"), "other.pem");
  EXPECT_EQ(properties.at("sasl.username"), "of the environment");
  EXPECT_EQ(properties.at("sasl.password"), "{a: secret}");
  EXPECT_EQ(properties.at("sasl.mechanism"), "PLAIN");
}

TEST_F(ConfigTest, WrongPropertiesAreErrors) {
  const std::string begin = "agent:\n  upstream:\n    properties:\n";
  EXPECT_EQ(ErrorOf(begin + "      ssl.ca.locaton: x\n"),
            "holdfast.yaml:4:7: unknown property \"agent.upstream.properties.ssl.ca.locaton\"; did "
            "you mean \"agent.upstream.properties.ssl.ca.location\"?");
  EXPECT_EQ(ErrorOf(begin + "      linger.ms: 5\n"),
            "holdfast.yaml:4:7: unknown property \"agent.upstream.properties.linger.ms\"; "
            "docs/configuration.md lists those that are known");
  EXPECT_EQ(
      ErrorOf(begin + "      security.protocol: tls\n"),
      "holdfast.yaml:4:7: agent.upstream.properties.security.protocol is \"tls\", and must be "
      "one of PLAINTEXT,SSL,SASL_PLAINTEXT,SASL_SSL");
  EXPECT_EQ(ErrorOf(begin + "      sasl.password:\n"),
            "holdfast.yaml:4:7: agent.upstream.properties.sasl.password has no value");
  EXPECT_EQ(ErrorOfSetting("agent.upstream.properties.sasl.pasword", "secret"),
            "--set: unknown property \"agent.upstream.properties.sasl.pasword\"; did you mean "
            "\"agent.upstream.properties.sasl.password\"?");
  EXPECT_EQ(ErrorOfSetting("agent.upstream.properties", "secret"),
            "--set: agent.upstream.properties must be a map of properties");
}

void FindDurations(const google::protobuf::Descriptor& type, std::set<std::string>& without_max) {
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    const Check& rule = field.options().GetExtension(check);
    if (UnitOf(field.name()) == Unit::kMilliseconds &&
        (!rule.has_max() || std::chrono::milliseconds(rule.max()) > std::chrono::days(36'500)))
      without_max.insert(field.name());
    if (field.message_type() != nullptr) FindDurations(*field.message_type(), without_max);
  }
}

// In nanoseconds as clocks have them, behind any time of theirs.
TEST_F(ConfigTest, ADurationThatIsAddedToATimeOverflowsNowhere) {
  std::set<std::string> without_max;
  FindDurations(*Config::descriptor(), without_max);
  // These are compared with timestamps of records, in milliseconds.
  EXPECT_EQ(without_max, (std::set<std::string>{"timestamp_ahead_max_ms", "ttl_ms"}));
}

TEST_F(ConfigTest, ValuesThatContradictEachOtherAreAnError) {
  EXPECT_EQ(ErrorOf("agent: {topics: [{partitions: 1}]}"),
            "agent.topics has a topic without a name");
  EXPECT_EQ(ErrorOf("agent: {topics: [{name: a}, {name: a}]}"), "agent.topics names \"a\" twice");
  EXPECT_EQ(ErrorOf("agent: {upstream: {backoff_min_ms: 11s}}"),
            "agent.upstream.backoff_min_ms must not be more than agent.upstream.backoff_max_ms");
}

TEST_F(ConfigTest, SaysWhatMustBeSetAndHow) {
  const auto config = LoadText("agent: {listen: [a:1], upstream: {bootstrap: [b:1]}}\n");
  ASSERT_TRUE(config);
  const auto complete = CheckComplete(**config, "agent");
  ASSERT_FALSE(complete);
  EXPECT_EQ(complete.error().message,
            "agent.spool.directory is not set: give --spool DIR, --set agent.spool.directory=..., "
            "HOLDFAST__AGENT__SPOOL__DIRECTORY=..., or put it into the configuration file");
  const auto broker = LoadText("broker: {listen: 'a:1', data: {directory: d}}\n");
  ASSERT_TRUE(broker);
  EXPECT_TRUE(CheckComplete(**broker, "broker"));
}

TEST_F(ConfigTest, RulesHavePatternsOfWhichEachCanCount) {
  EXPECT_TRUE(LoadText(R"(
agent:
  topic_rules:
    - {topic: orders.eu, acks: both, ttl_ms: 1h}
    - {topic: orders.*, bytes_max: 1GiB, when_full: drop_oldest, priority: high}
  client_rules:
    - {client: "billing*", bytes_per_second_max: 10MB}
)"));
  EXPECT_EQ(ErrorOf("agent:\n  topic_rules: [{topic: 'a*b'}]\n"),
            "holdfast.yaml:2:25: agent.topic_rules[0].topic is \"a*b\", and must be a name, or the "
            "beginning of names and * at its end");
  EXPECT_EQ(ErrorOf("agent:\n  topic_rules: [{ttl_ms: 1s}]\n"),
            "agent.topic_rules has a rule without \"topic\"");
  EXPECT_EQ(ErrorOf("agent:\n  topic_rules: [{topic: 'a*'}, {topic: ab}]\n"),
            "agent.topic_rules: \"ab\" comes after \"a*\", which fits the same names, so that it "
            "never counts");
}

TEST_F(ConfigTest, ChangesAreSortedIntoThoseThatNeedARestart) {
  const auto before = LoadText("agent: {spool: {directory: a}, workers: 2}\n");
  const auto after = LoadText(
      "agent: {spool: {directory: a, bytes_max: 1GiB}, workers: 2, topic_rules: [{topic: a}]}\n"
      "log: {level: debug}\n");
  const Changes changes = Compare(**before, **after);
  EXPECT_EQ(changes.live, (std::vector<std::string>{"log.level", "agent.topic_rules"}));
  EXPECT_EQ(changes.restart, std::vector<std::string>{"agent.spool.bytes_max"});
  EXPECT_TRUE(Compare(**after, **after).restart.empty());
  const auto secured = LoadText(
      "agent:\n"
      "  spool: {directory: a}\n"
      "  workers: 2\n"
      "  tls: {certificate: a.pem}\n"
      "  sasl: {mechanisms: [PLAIN], users: [{name: a, password: b}]}\n"
      "  access: {rules: [{principal: 'User:a'}], tier_identity: agent}\n");
  const Changes security = Compare(**before, **secured);
  EXPECT_EQ(security.live,
            (std::vector<std::string>{"agent.tls.certificate", "agent.sasl.mechanisms",
                                      "agent.sasl.users", "agent.access.rules"}));
  EXPECT_EQ(security.restart, std::vector<std::string>{"agent.access.tier_identity"});
  // What is set to its default is the same as what is not set.
  const auto spelled_out = LoadText("agent: {spool: {directory: a, bytes_max: 0}, workers: 2}\n");
  EXPECT_TRUE(Compare(**before, **spelled_out).restart.empty());
}

TEST_F(ConfigTest, SecretsAreNotShown) {
  const std::string key(64, 'a');
  const auto config = LoadText("agent:\n  spool: {encryption_keys: [" + key + "]}\n" +
                               "  upstream: {properties: {sasl.mechanism: PLAIN, sasl.jaas.config: "
                               "'x password=\"hunter2\"'}}\n");
  ASSERT_TRUE(config) << config.error().message;
  const std::string shown = PrintWithoutSecrets(**config);
  EXPECT_EQ(shown.find(key), std::string::npos);
  EXPECT_EQ(shown.find("hunter2"), std::string::npos);
  EXPECT_NE(shown.find("(hidden)"), std::string::npos);
  EXPECT_NE(shown.find("PLAIN"), std::string::npos);
  EXPECT_NE(shown.find("\"segment_bytes\": \"268435456\""), std::string::npos) << shown;
}

TEST_F(ConfigTest, SettingsGoOverWhatWasLoadedBefore) {
  const auto base = LoadText("agent: {workers: 3, upstream: {bootstrap: [a:1]}}");
  ASSERT_TRUE(base) << base.error().message;
  const auto config = Load({.base = *base, .sets = {{"agent.workers", "4", "--set"}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*config)->agent().workers(), 4);
  EXPECT_EQ((*config)->agent().upstream().bootstrap(0), "a:1");
  EXPECT_EQ((*base)->agent().workers(), 3);
}

TEST_F(ConfigTest, ReferencesThatAreKeptAreNotLookedUp) {
  const std::string text = R"(
agent:
  admin: {env: HOLDFAST_TEST_UNSET}
  upstream:
    bootstrap: {file: brokers}
    properties: {security.protocol: {file: /nowhere/protocol}, sasl.password: {file: secret}}
  spool: {encryption_keys: [{file: key}]}
)";
  Write("secret", "hush");
  const auto config = Load({.references = References::kKeep, .file = Write("holdfast.yaml", text)});
  ASSERT_TRUE(config) << config.error().message;
  const Agent& agent = (*config)->agent();
  EXPECT_EQ(agent.admin(), "{env: HOLDFAST_TEST_UNSET}");
  EXPECT_EQ(agent.upstream().bootstrap(0), "{file: brokers}");
  EXPECT_EQ(agent.upstream().properties().at("security.protocol"), "{file: /nowhere/protocol}");
  EXPECT_EQ(agent.upstream().properties().at("sasl.password"), "{file: secret}");
  EXPECT_EQ(agent.spool().encryption_keys(0), "{file: key}");
  // They stand for text only, and are of one form.
  EXPECT_EQ(ErrorOf(Load({.references = References::kKeep,
                          .sets = {{"agent.workers", "{file: workers}", "--set"}}})),
            "--set: agent.workers must be a single value");
  EXPECT_EQ(ErrorOf(Load(
                {.references = References::kKeep, .sets = {{"agent.admin", "{url: a}", "--set"}}})),
            "--set: agent.admin must be text, {env: NAME} or {file: PATH}");
}

}  // namespace
}  // namespace holdfast::config
