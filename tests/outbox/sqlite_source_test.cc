#include "agent/outbox/sqlite_source.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "agent/outbox/outbox_sql_sqlite.h"
#include "tests/outbox/files_in.h"

// SQLite's calls come here. The test looks at what is flushed when.
std::function<void(const std::string& path)>& OnFlush() {
  static std::function<void(const std::string&)> on_flush;
  return on_flush;
}
extern "C" int fdatasync(int fd) {
  if (OnFlush()) {
    const auto path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd));
    OnFlush()(path.string());
  }
  static const auto real = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "fdatasync"));
  return real(fd);
}

namespace holdfast::outbox {
namespace {

using namespace std::chrono_literals;
using base::Code;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

// A service: another connection.
class Service {
 public:
  explicit Service(const std::string& file) {
    EXPECT_EQ(sqlite3_open(file.c_str(), &database_), SQLITE_OK);
    sqlite3_busy_timeout(database_, 10'000);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service() { sqlite3_close(database_); }

  // The first column of the last row.
  std::string Run(const std::string& sql) {
    std::string value;
    char* message = nullptr;
    const int code = sqlite3_exec(
        database_, sql.c_str(),
        [](void* out, int, char** values, char**) {
          *static_cast<std::string*>(out) = values[0] == nullptr ? "null" : values[0];
          return 0;
        },
        &value, &message);
    EXPECT_EQ(code, SQLITE_OK) << sql << ": " << message;
    sqlite3_free(message);
    return value;
  }

 private:
  sqlite3* database_ = nullptr;
};

constexpr const char* kTables = R"(
  PRAGMA journal_mode=WAL;
  CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
                       aggregatetype TEXT, aggregateid TEXT, payload BLOB, extra);
  CREATE TABLE outbox_quarantine (seq INTEGER, id TEXT, aggregatetype TEXT, aggregateid TEXT,
                                  payload BLOB, extra, reason TEXT, quarantined_at TEXT);)";

class SqliteSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-sqlite-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    file_ = directory_ + "/orders.db";
  }
  void TearDown() override {
    OnFlush() = nullptr;
    std::filesystem::remove_all(directory_);
  }

  SqliteSource Source(const std::map<std::string, std::string>& properties = {},
                      Preset preset = Preset::kDebezium, const std::string& table = "") {
    auto mapping = TableMapping::Of(preset, properties);
    EXPECT_TRUE(mapping);
    if (!table.empty()) mapping->table = table;
    return SqliteSource({.file = file_, .mapping = *std::move(mapping)});
  }
  static std::vector<Row> Read(SqliteSource& source, size_t limit = 1000,
                               std::vector<std::string> held = {}, std::vector<RowId> stuck = {}) {
    auto rows = source.Read(limit, held, stuck);
    EXPECT_TRUE(rows) << rows.error().message;
    return rows ? *std::move(rows) : std::vector<Row>();
  }
  static base::Error OpenError(SqliteSource source) {
    const auto opened = source.Open();
    EXPECT_FALSE(opened);
    return opened ? base::Error{} : opened.error();
  }
  static bool MayHaveMore(SqliteSource& source) {
    const auto may = source.MayHaveMore();
    EXPECT_TRUE(may) << may.error().message;
    return may && *may;
  }

  std::string directory_;
  std::string file_;
};

#define ASSERT_OK(expression)                                             \
  do {                                                                    \
    const auto result = (expression);                                     \
    ASSERT_TRUE(result) << #expression << ": " << result.error().message; \
  } while (false)

std::vector<int64_t> Positions(const std::vector<Row>& rows) {
  std::vector<int64_t> positions;
  for (const Row& row : rows) positions.push_back(row.position);
  return positions;
}

std::vector<RowId> Ids(const std::vector<Row>& rows) {
  std::vector<RowId> ids;
  for (const Row& row : rows) ids.push_back({row.position, row.id});
  return ids;
}

TEST_F(SqliteSourceTest, ReadsRowsWithWhatTheyHold) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(INSERT INTO outbox (id, aggregatetype, aggregateid, payload) VALUES
    ('a', 'orders', 'o-1', x'00ff10'), ('b', 'bills', 17, '{"x":1}'), ('c', 'orders', NULL, NULL),
    ('d', 'orders', 'o-2', ''), ('e', 'orders', 'o-2', 1.5), ('f', NULL, 'o-2', 'lost'))");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(rows[0].id, "a");
  EXPECT_EQ(rows[0].route, "orders");
  EXPECT_EQ(rows[0].key, "o-1");
  EXPECT_EQ(rows[0].payload, std::string("\0\xff\x10", 3));
  EXPECT_EQ(rows[0].timestamp_ms, std::nullopt);
  EXPECT_EQ(rows[0].problem, "");
  EXPECT_EQ(rows[1].key, "17");
  EXPECT_EQ(rows[1].payload, "{\"x\":1}");
  EXPECT_EQ(rows[2].key, std::nullopt);
  EXPECT_EQ(rows[2].payload, std::nullopt);
  EXPECT_EQ(rows[3].payload, "");
  EXPECT_EQ(rows[4].payload, "1.5");
  EXPECT_THAT(rows[5].problem, HasSubstr("`aggregatetype` is null"));
  EXPECT_THAT(rows[0].fields, ElementsAre(Pair("aggregatetype", "orders")));
}

TEST_F(SqliteSourceTest, TimestampsArePlainOrIso8601) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(INSERT INTO outbox (id, aggregatetype, extra) VALUES
    ('a', 'o', 1700000000123), ('b', 'o', '2023-11-14T22:13:20.123Z'),
    ('c', 'o', '2023-11-14 23:13:20.001+01:00'), ('d', 'o', NULL), ('e', 'o', 'yesterday'),
    ('f', 'o', x'01'), ('g', 'o', 1.5))");
  SqliteSource source = Source({{"table.field.event.timestamp", "extra"}});
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(rows, SizeIs(7));
  EXPECT_EQ(rows[0].timestamp_ms, 1700000000123);
  EXPECT_EQ(rows[1].timestamp_ms, 1700000000123);
  EXPECT_EQ(rows[2].timestamp_ms, 1700000000001);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(rows[i].problem, "") << i;
  EXPECT_EQ(rows[3].timestamp_ms, std::nullopt);
  for (int i = 4; i < 7; ++i) EXPECT_THAT(rows[i].problem, HasSubstr("`extra` is neither")) << i;
}

TEST_F(SqliteSourceTest, ColumnsBecomeHeadersAndPartition) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(INSERT INTO outbox (id, aggregatetype, aggregateid, extra) VALUES
    ('a', 'o', 'k', 3), ('b', 'o', NULL, NULL), ('c', 'o', 'k', -1), ('d', 'o', 'k', 'x'))");
  SqliteSource source = Source(
      {{"table.fields.additional.placement", "aggregateid:header:aggregate,extra:partition"}});
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(rows, SizeIs(4));
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("aggregate", "k")));
  EXPECT_EQ(rows[0].partition, 3);
  EXPECT_THAT(rows[1].headers, ElementsAre(Pair("aggregate", std::nullopt)));
  EXPECT_EQ(rows[1].partition, std::nullopt);
  EXPECT_EQ(rows[1].problem, "");
  EXPECT_THAT(rows[2].problem, HasSubstr("`extra` is no partition: `-1`"));
  EXPECT_THAT(rows[3].problem, HasSubstr("`extra` is no partition: `x`"));
}

TEST_F(SqliteSourceTest, EventuatesTable) {
  Service service(file_);
  service.Run(R"(PRAGMA journal_mode=WAL;
    CREATE TABLE message (dbid INTEGER PRIMARY KEY AUTOINCREMENT, id, destination, headers, payload,
                          creation_time);
    CREATE TABLE message_quarantine (dbid, id, destination, headers, payload, creation_time, reason,
                                     quarantined_at);
    INSERT INTO message (id, destination, headers, payload, creation_time) VALUES
      ('a', 'orders', '{"PARTITION_ID":"7","TYPE":"made"}', 'p', 5), ('b', 'orders', '{', 'p', 6),
      ('c', 'orders', NULL, 'p', 7))");
  EXPECT_THAT(OpenError(Source({}, Preset::kEventuate)).message,
              HasSubstr("SQLite has no schemas"));
  SqliteSource source = Source({}, Preset::kEventuate, "message");
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(rows, SizeIs(3));
  EXPECT_EQ(rows[0].key, "7");
  EXPECT_EQ(rows[0].timestamp_ms, 5);
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("PARTITION_ID", "7"), Pair("TYPE", "made")));
  EXPECT_THAT(rows[1].problem, HasSubstr("`headers`: the headers are not JSON"));
  EXPECT_EQ(rows[2].problem, "");
}

TEST_F(SqliteSourceTest, RowsThatAreDoneAreNotRead) {
  Service service(file_);
  service.Run(R"(PRAGMA journal_mode=WAL;
    CREATE TABLE event_publication (seq INTEGER PRIMARY KEY AUTOINCREMENT, id, listener_id,
      event_type, serialized_event, publication_date, completion_date);
    CREATE TABLE event_publication_quarantine (seq, id, listener_id, event_type, serialized_event,
      publication_date, completion_date, reason, quarantined_at);
    INSERT INTO event_publication VALUES (1, 'a', 'l', 'made', '{}', 5, 6),
                                         (2, 'b', 'l', 'made', '{}', 5, NULL))");
  SqliteSource source = Source({}, Preset::kModulith);
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source)), ElementsAre(2));
  const auto lag = source.Measure();
  ASSERT_OK(lag);
  EXPECT_EQ(lag->parts[0].rows, 1);
  EXPECT_EQ(lag->parts[0].lowest, 2);
}

TEST_F(SqliteSourceTest, PassesOverHeldRoutes) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(INSERT INTO outbox (id, aggregatetype) VALUES
    ('a', 'orders'), ('b', 'bills'), ('c', x'6f7264657273'), ('d', NULL), ('e', 'it''s'))");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source, 10, {"orders", "it's"})), ElementsAre(2, 4));
  EXPECT_THAT(Positions(Read(source, 1, {"orders"})), ElementsAre(2));
  EXPECT_THAT(Positions(Read(source, 10, std::vector<std::string>(40'000, "orders"))),
              ElementsAre(2, 4, 5));
  EXPECT_THAT(Positions(Read(source, 2)), ElementsAre(1, 2));
}

TEST_F(SqliteSourceTest, AReadIsBoundedByBytes) {
  Service service(file_);
  service.Run(kTables);
  for (int i = 0; i < 24; ++i) {
    service.Run(
        "INSERT INTO outbox (id, aggregatetype, payload) VALUES ('a','o',zeroblob(1048576))");
  }
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(SqliteSource::kReadBytes >> 20));
}

TEST_F(SqliteSourceTest, AReadIsBoundedByTheBytesOfAllColumns) {
  Service service(file_);
  service.Run(kTables);
  const std::map<std::string, std::string> properties{
      {"table.fields.additional.placement", "extra:header"},
      {"route.topic.replacement", "${aggregateid}"}};
  for (const char* column : {"aggregateid", "extra"}) {
    SCOPED_TRACE(column);
    service.Run(
        fmt::format("DELETE FROM outbox; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
                    "i + 1 FROM n WHERE i < 24) INSERT INTO outbox (id, aggregatetype, {}) "
                    "SELECT 'a', 'o', hex(zeroblob(524288)) FROM n",
                    column));
    SqliteSource source = Source(properties);
    ASSERT_OK(source.Open());
    // A key that the topic names is there twice.
    const size_t times = column == std::string_view("extra") ? 1 : 2;
    EXPECT_THAT(Read(source), SizeIs((SqliteSource::kReadBytes >> 20) / times));
    source.Close(true);
  }
}

TEST_F(SqliteSourceTest, KnowsWhetherOthersHaveCommitted) {
  Service service(file_);
  service.Run(kTables);
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_TRUE(MayHaveMore(source));
  EXPECT_THAT(Read(source), IsEmpty());
  EXPECT_FALSE(MayHaveMore(source));
  service.Run("BEGIN; INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o')");
  EXPECT_FALSE(MayHaveMore(source));
  service.Run("COMMIT");
  EXPECT_TRUE(MayHaveMore(source));
  EXPECT_TRUE(MayHaveMore(source));
  EXPECT_THAT(Read(source), SizeIs(1));
  EXPECT_FALSE(MayHaveMore(source));
  ASSERT_OK(source.Remove(std::vector<RowId>{{1, "a"}}, {}));
  EXPECT_FALSE(MayHaveMore(source));
  service.Run("BEGIN; INSERT INTO outbox (id, aggregatetype) VALUES ('b', 'o'); ROLLBACK");
  EXPECT_FALSE(MayHaveMore(source));
  EXPECT_THAT(Read(source), IsEmpty());
}

TEST_F(SqliteSourceTest, RemovesAndQuarantines) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(INSERT INTO outbox (id, aggregatetype, aggregateid, payload, extra) VALUES
    ('a', 'o', 'k', 'p', 1), ('b', 'o', 'k', x'00ff', 2), ('c', 'o', 'k', 'p', 3))");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  ASSERT_OK(
      source.Remove(std::vector<RowId>{{1, "a"}, {99, "a"}},
                    std::vector<Source::Poison>{{{2, "b"}, "it's bad"}, {{98, "gone"}, "gone"}}));
  EXPECT_EQ(service.Run("SELECT group_concat(id) FROM outbox"), "c");
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox_quarantine"), "1");
  // `extra` is no column of the mapping.
  EXPECT_EQ(service.Run("SELECT seq||id||aggregatetype||aggregateid||hex(payload)||extra||reason "
                        "FROM outbox_quarantine"),
            "2bok00FF2it's bad");
  EXPECT_EQ(service.Run("SELECT abs(strftime('%s', quarantined_at) - strftime('%s', 'now')) < 60 "
                        "FROM outbox_quarantine"),
            "1");
  // Again, as after a crash.
  ASSERT_OK(source.Remove(std::vector<RowId>{{1, "a"}},
                          std::vector<Source::Poison>{{{2, "b"}, "it's bad"}}));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox_quarantine"), "1");
  const auto lag = source.Measure();
  ASSERT_OK(lag);
  ASSERT_THAT(lag->parts, SizeIs(1));
  EXPECT_TRUE(lag->parts[0].owned);
  EXPECT_EQ(lag->parts[0].rows, 1);
  EXPECT_EQ(lag->quarantined, 1);
}

// Without AUTOINCREMENT an emptied table gives its positions again.
TEST_F(SqliteSourceTest, LeavesARowThatTookThePositionOfAnother) {
  Service service(file_);
  service.Run(kTables);
  service.Run(R"(DROP TABLE outbox; CREATE TABLE outbox (seq INTEGER PRIMARY KEY, id,
    aggregatetype TEXT, aggregateid TEXT, payload BLOB))");
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), (x'00ff', 'o'), (3, 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<RowId> before = Ids(Read(source));
  service.Run("DELETE FROM outbox");
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('b', 'o'), (x'00fe', 'o'), (3, 'o')");
  EXPECT_THAT(Positions(Read(source)), ElementsAre(1, 2, 3));
  ASSERT_OK(source.Remove(std::vector<RowId>{before[0], before[2]},
                          std::vector<Source::Poison>{{before[1], "not this one"}}));
  EXPECT_THAT(Positions(Read(source)), ElementsAre(1, 2));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox_quarantine"), "0");
  ASSERT_OK(source.Remove({}, std::vector<Source::Poison>{{Ids(Read(source))[1], "this one"}}));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox_quarantine"), "1");
}

// Of two events with one position and one id the second would be taken for the first.
TEST_F(SqliteSourceTest, AnIdThatIsThePositionIsNeverGivenAgain) {
  Service service(file_);
  service.Run(kTables);
  const auto by_position = [this] { return Source({{"table.field.event.id", "SEQ"}}); };
  {
    SqliteSource source = by_position();
    ASSERT_OK(source.Open());
    service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o')");
    EXPECT_THAT(Ids(Read(source)), ElementsAre(RowId{1, "1"}));
  }
  for (const char* position : {"seq INTEGER PRIMARY KEY", "seq INTEGER NOT NULL UNIQUE"}) {
    service.Run(
        fmt::format("DROP TABLE outbox; CREATE TABLE outbox ({}, id, aggregatetype TEXT, "
                    "aggregateid TEXT, payload BLOB /* AUTOINCREMENT */)",
                    position));
    const base::Error error = OpenError(by_position());
    EXPECT_EQ(error.code, Code::kInvalid);
    EXPECT_THAT(error.message, AllOf(HasSubstr("the id is the position"),
                                     HasSubstr("INTEGER PRIMARY KEY AUTOINCREMENT")));
    EXPECT_THAT(by_position().Look().error().message, HasSubstr("AUTOINCREMENT"));
    ASSERT_OK(Source().Open());
  }
}

TEST_F(SqliteSourceTest, ALookMakesNothingWhileNobodyHasTheFile) {
  {
    Service service(file_);
    service.Run(kTables);
    service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o')");
  }
  const auto before = test::FilesIn(directory_);
  ASSERT_THAT(before, SizeIs(1));
  SqliteSource source = Source();
  const auto sight = source.Look();
  ASSERT_OK(sight);
  EXPECT_FALSE(sight->taken);
  ASSERT_TRUE(sight->lag);
  EXPECT_EQ(sight->lag->parts[0].rows, 1);
  EXPECT_EQ(test::FilesIn(directory_), before);
  ASSERT_OK(Source().Open());
}

TEST_F(SqliteSourceTest, ALookDisturbsNoAgentAndNoService) {
  Service service(file_);
  service.Run(kTables);
  SqliteSource agent = Source();
  ASSERT_OK(agent.Open());
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o')");
  service.Run("INSERT INTO outbox_quarantine (id) VALUES ('c')");
  const auto before = test::FilesIn(directory_);
  const auto sight = Source().Look();
  ASSERT_OK(sight);
  EXPECT_TRUE(sight->taken);
  ASSERT_TRUE(sight->lag);
  EXPECT_EQ(sight->lag->parts[0].rows, 2);
  EXPECT_EQ(sight->lag->quarantined, 1);
  EXPECT_EQ(test::FilesIn(directory_), before);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('d', 'o')");
  EXPECT_THAT(Read(agent), SizeIs(3));
}

TEST_F(SqliteSourceTest, ALookReadsTheLogOfAServiceThatWasKilled) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o')");
  const std::string killed = directory_ + "/killed";
  std::filesystem::create_directory(killed);
  for (const char* name : {"orders.db", "orders.db-wal", "orders.db-shm"})
    std::filesystem::copy(directory_ + "/" + name, killed);
  file_ = killed + "/orders.db";
  const auto before = test::FilesIn(killed);
  const auto sight = Source().Look();
  ASSERT_OK(sight);
  ASSERT_TRUE(sight->lag);
  EXPECT_EQ(sight->lag->parts[0].rows, 1);
  EXPECT_EQ(test::FilesIn(killed), before);
  // Without its index SQLite would have to make one.
  std::filesystem::remove(file_ + "-shm");
  const auto without = Source().Look();
  ASSERT_OK(without);
  EXPECT_FALSE(without->lag);
  EXPECT_THAT(test::FilesIn(killed), SizeIs(2));
}

TEST_F(SqliteSourceTest, ALookSaysWhatIsWrong) {
  EXPECT_THAT(Source().Look().error().message, HasSubstr("no such database yet"));
  {
    Service service(file_);
    service.Run("CREATE TABLE outbox (seq INTEGER PRIMARY KEY)");
  }
  EXPECT_THAT(Source().Look().error().message, HasSubstr("has to be `wal`"));
  Service(file_).Run("PRAGMA journal_mode=WAL");
  EXPECT_THAT(Source().Look().error().message, HasSubstr("there is no table `outbox_quarantine`"));
  EXPECT_THAT(test::FilesIn(directory_), SizeIs(1));
}

TEST_F(SqliteSourceTest, WhatCannotBeQuarantinedStays) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o')");
  service.Run(
      "CREATE TRIGGER no BEFORE INSERT ON outbox_quarantine BEGIN "
      "SELECT raise(ABORT, 'not here'); END");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const auto refusal = source.Remove({}, std::vector<Source::Poison>{{{1, "a"}, "bad"}});
  ASSERT_OK(refusal);
  EXPECT_THAT(*refusal, HasSubstr("not here"));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox"), "2");
  // And the next one works, as nothing was left open.
  service.Run("DROP TRIGGER no");
  ASSERT_OK(source.Remove({}, std::vector<Source::Poison>{{{1, "a"}, "bad"}}));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox"), "1");
}

TEST_F(SqliteSourceTest, SaysWhyTheQuarantineRefusesARow) {
  Service service(file_);
  service.Run(kTables);
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Source::Poison> poison{{{1, "a"}, "bad"}};
  constexpr const char* kQuarantine =
      "DROP TABLE outbox_quarantine; CREATE TABLE outbox_quarantine (seq, id {}, aggregatetype, "
      "aggregateid {}, payload, extra {}, reason, quarantined_at)";
  const auto make = [&](const char* id, const char* key, const char* extra) {
    service.Run(fmt::format(fmt::runtime(kQuarantine), id, key, extra));
  };
  const auto expect_refusal = [&](const char* why) {
    const auto refusal = source.Remove({}, poison);
    ASSERT_OK(refusal);
    EXPECT_THAT(*refusal, AllOf(HasSubstr(why), HasSubstr("`outbox_quarantine`")));
    EXPECT_EQ(service.Run("SELECT count(*) FROM outbox"), "1");
  };
  service.Run("INSERT INTO outbox (seq, id, aggregatetype) VALUES (1, 'a', 'o')");
  make("", "NOT NULL", "");
  expect_refusal("NOT NULL constraint failed: outbox_quarantine.aggregateid");
  make("INTEGER PRIMARY KEY", "", "");
  expect_refusal("datatype mismatch");
  make("", "", "CHECK (extra IS NOT NULL)");
  expect_refusal("CHECK constraint failed");
  make("", "", "");
  const auto refusal = source.Remove({}, poison);
  ASSERT_OK(refusal);
  EXPECT_EQ(*refusal, "");
  EXPECT_EQ(service.Run("SELECT reason FROM outbox_quarantine"), "bad");
  // It is an error as before if there is no quarantine at all.
  service.Run("INSERT INTO outbox (seq, id, aggregatetype) VALUES (1, 'a', 'o')");
  service.Run("DROP TABLE outbox_quarantine");
  EXPECT_FALSE(source.Remove({}, poison));
}

TEST_F(SqliteSourceTest, PassesOverStuckRows) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o'), ('c', 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source, 2, {}, {{1, "a"}})), ElementsAre(2, 3));
  EXPECT_THAT(Positions(Read(source, 1, {}, {{1, "other"}, {2, "b"}})), ElementsAre(1));
}

TEST_F(SqliteSourceTest, SaysThatARowCouldNotBeRemoved) {
  Service service(file_);
  service.Run(kTables);
  service.Run(
      "INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o'); CREATE TRIGGER keep "
      "BEFORE DELETE ON outbox BEGIN SELECT raise(IGNORE); END");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const auto kept = source.Remove(std::vector<RowId>{{1, "a"}}, {});
  ASSERT_FALSE(kept) << "it would be taken for gone, and sent again";
  EXPECT_EQ(kept.error().code, Code::kUnavailable);
  EXPECT_THAT(kept.error().message,
              AllOf(HasSubstr("the row at 1 could not be removed"), HasSubstr("trigger")));
  EXPECT_FALSE(source.Remove({}, std::vector<Source::Poison>{{{2, "b"}, "bad"}}));
  EXPECT_EQ(service.Run("SELECT count(*) FROM outbox_quarantine"), "0") << "each time once more";
  service.Run("DROP TRIGGER keep");
  ASSERT_OK(
      source.Remove(std::vector<RowId>{{1, "a"}}, std::vector<Source::Poison>{{{2, "b"}, "bad"}}));
  EXPECT_THAT(Read(source), IsEmpty());
}

// The service keeps them, and its rows say that they are sent.
TEST_F(SqliteSourceTest, ARowMayBeMarkedWhereItIsToBeRemoved) {
  Service service(file_);
  service.Run(R"(PRAGMA journal_mode=WAL;
    CREATE TABLE event_publication (seq INTEGER PRIMARY KEY AUTOINCREMENT, id, listener_id,
      event_type, serialized_event, publication_date, completion_date);
    CREATE TABLE event_publication_quarantine (seq, id, listener_id, event_type, serialized_event,
      publication_date, completion_date, reason, quarantined_at);
    CREATE TRIGGER mark BEFORE DELETE ON event_publication BEGIN
      UPDATE event_publication SET completion_date = 7 WHERE seq = OLD.seq;
      SELECT raise(IGNORE);
    END;
    INSERT INTO event_publication VALUES (1, 'a', 'l', 'made', '{}', 5, NULL))");
  SqliteSource source = Source({}, Preset::kModulith);
  ASSERT_OK(source.Open());
  ASSERT_OK(source.Remove(Ids(Read(source)), {}));
  EXPECT_THAT(Read(source), IsEmpty());
  EXPECT_EQ(service.Run("SELECT completion_date FROM event_publication"), "7");
}

TEST_F(SqliteSourceTest, FindsWhatIsStillThere) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o'), ('c', 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const auto found = source.Find(std::vector<int64_t>{7, 1, 3});
  ASSERT_OK(found);
  EXPECT_THAT(*found, ElementsAre(RowId{1, "a"}, RowId{3, "c"}));
}

TEST_F(SqliteSourceTest, NoPositionIsGivenTwice) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  ASSERT_OK(source.Remove(Ids(Read(source)), {}));
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('c', 'o')");
  EXPECT_THAT(Positions(Read(source)), ElementsAre(3));
}

TEST_F(SqliteSourceTest, RowsWithoutAnIntegerPositionAreNotTakenForOthers) {
  Service service(file_);
  service.Run(R"(PRAGMA journal_mode=WAL;
    CREATE TABLE outbox (seq, id, aggregatetype, aggregateid, payload);
    CREATE UNIQUE INDEX by_seq ON outbox (seq);
    CREATE TABLE outbox_quarantine (seq, id, aggregatetype, aggregateid, payload, reason,
                                    quarantined_at);
    INSERT INTO outbox (seq, id, aggregatetype) VALUES (1, 'a', 'o'), (1.5, 'b', 'o'),
                                                       ('1', 'c', 'o'), (NULL, 'd', 'o'))");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source)), ElementsAre(1));
  const auto lag = source.Measure();
  ASSERT_OK(lag);
  EXPECT_EQ(lag->without_position, 3U) << "nobody would know of them";
  EXPECT_EQ(lag->parts[0].rows, 1U);
  EXPECT_EQ(lag->parts[0].lowest, 1);
}

TEST_F(SqliteSourceTest, SaysAllThatIsWrongWithTheTables) {
  Service service(file_);
  service.Run(R"(PRAGMA journal_mode=WAL;
    CREATE TABLE outbox (seq INTEGER, id TEXT, aggregatetype TEXT, payload);
    CREATE INDEX not_unique ON outbox (seq);
    CREATE UNIQUE INDEX of_two ON outbox (seq, id);
    CREATE UNIQUE INDEX of_some ON outbox (seq) WHERE seq > 5;)");
  base::Error error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message,
              AllOf(HasSubstr("table `outbox` has no column `aggregateid`"),
                    HasSubstr("`seq` is neither INTEGER PRIMARY KEY"),
                    HasSubstr("no table `outbox_quarantine`"),
                    HasSubstr("`holdfast outbox sql --dialect sqlite`"), HasSubstr(file_)));
  service.Run("CREATE TABLE outbox_quarantine (seq, id, aggregatetype, payload)");
  EXPECT_THAT(OpenError(Source()).message,
              AllOf(HasSubstr("table `outbox_quarantine` has no column `reason`: ALTER TABLE "
                              "\"outbox_quarantine\" ADD COLUMN \"reason\""),
                    HasSubstr("table `outbox_quarantine` has no column `quarantined_at`")));
  service.Run("DROP TABLE outbox");
  EXPECT_THAT(OpenError(Source()).message, HasSubstr("there is no table `outbox`"));
}

TEST_F(SqliteSourceTest, TheStatementsThatArePrintedMakeWhatItWants) {
  struct {
    Preset preset;
    std::map<std::string, std::string> properties;
    std::string table;
  } const cases[] = {
      {Preset::kDebezium, {}, "outbox"},
      {Preset::kEventuate, {}, "message"},
      {Preset::kModulith, {}, "event_publication"},
      {Preset::kDebezium,
       {{"table.field.event.position", "my \"nr\""},
        {"table.field.event.timestamp", "at"},
        {"table.fields.additional.placement", "kind:header,part:partition,id:header:event"}},
       "events"},
  };
  for (const auto& one : cases) {
    std::filesystem::remove(file_);
    auto mapping = TableMapping::Of(one.preset, one.properties);
    ASSERT_OK(mapping);
    if (one.table == "events") mapping->table = "events";
    Service service(file_);
    const std::string sql = SqliteOutboxSql(*mapping);
    service.Run(sql);
    service.Run(sql);  // Again.
    SqliteSource source = Source(one.properties, one.preset, one.table);
    ASSERT_OK(source.Open());
    service.Run("INSERT INTO " + one.table + " (id, " + mapping->route + ", " + mapping->payload +
                ") VALUES ('a', 'orders', x'00ff')");
    const std::vector<Row> rows = Read(source);
    ASSERT_THAT(rows, SizeIs(1));
    EXPECT_EQ(rows[0].payload, std::string("\0\xff", 2));
    ASSERT_OK(source.Remove({}, std::vector<Source::Poison>{{{1, "a"}, "bad"}}));
    EXPECT_EQ(service.Run("SELECT count(*) FROM " + one.table + "_quarantine"), "1");
  }
}

TEST_F(SqliteSourceTest, UniqueInEveryWayIsGoodEnough) {
  Service service(file_);
  service.Run(kTables);
  for (const char* columns :
       {"SEQ INTEGER PRIMARY KEY", "seq BIGINT UNIQUE", "seq INT PRIMARY KEY"}) {
    service.Run("DROP TABLE outbox");
    service.Run(std::string("CREATE TABLE outbox (") + columns +
                ", id, aggregatetype, aggregateid, payload AS (id) STORED)");
    EXPECT_TRUE(Source().Open()) << columns;
  }
}

TEST_F(SqliteSourceTest, RefusesWhatIsNoDatabaseInWalMode) {
  base::Error error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kUnavailable);
  EXPECT_THAT(error.message, AllOf(HasSubstr(file_), HasSubstr("no such database yet")));
  EXPECT_TRUE(std::filesystem::is_empty(directory_));  // Nothing is made.

  {
    Service service(file_);
    service.Run("CREATE TABLE outbox (seq)");
    error = OpenError(Source());
    EXPECT_EQ(error.code, Code::kInvalid);
    EXPECT_THAT(error.message, HasSubstr("run `PRAGMA journal_mode=WAL`"));
  }
  std::ofstream(file_) << std::string(10'000, 'x');
  error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("not a database"));

  std::filesystem::remove(file_);
  std::filesystem::create_directory(file_);
  EXPECT_EQ(OpenError(Source()).code, Code::kInvalid);
}

TEST_F(SqliteSourceTest, OneAgentAtATime) {
  Service service(file_);
  service.Run(kTables);
  SqliteSource first = Source();
  ASSERT_OK(first.Open());
  std::filesystem::create_symlink(file_, directory_ + "/link.db");
  SqliteSource second({.file = directory_ + "/link.db", .mapping = *TableMapping::Of({}, {})});
  const auto refused = second.Open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("another agent"), HasSubstr("-holdfast")));
  struct stat lock {};
  ASSERT_EQ(stat((file_ + "-holdfast").c_str(), &lock), 0);
  EXPECT_EQ(lock.st_mode & 0777, 0660);
  // Opened anew it keeps what it has.
  ASSERT_OK(first.Open());
  ASSERT_FALSE(second.Open());
  first.Close(true);
  ASSERT_OK(second.Open());
}

// It has rows in its spool that are still in the table.
TEST_F(SqliteSourceTest, AnAgentThatHadAnErrorIsStillTheOne) {
  Service service(file_);
  service.Run(kTables);
  service.Run(
      "INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'); CREATE TRIGGER no BEFORE DELETE "
      "ON outbox BEGIN SELECT raise(ABORT, 'not now'); END");
  SqliteSource second = Source();
  {
    SqliteSource first = Source();
    ASSERT_OK(first.Open());
    ASSERT_FALSE(first.Remove(Ids(Read(first)), {}));
    first.Close(/*clean=*/false);
    const auto refused = second.Open();
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("another agent"));
    const auto sight = second.Look();
    ASSERT_OK(sight);
    EXPECT_TRUE(sight->taken);
    ASSERT_OK(first.Open());
    first.Close(/*clean=*/false);
  }
  ASSERT_OK(second.Open());
}

TEST_F(SqliteSourceTest, NoticesThatTheFileWasReplaced) {
  SqliteSource source = Source();
  {
    Service service(file_);
    service.Run(kTables);
    ASSERT_OK(source.Open());
    ASSERT_THAT(Read(source), IsEmpty());
  }
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(file_ + suffix);
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('new', 'o')");
  const auto may = source.MayHaveMore();
  ASSERT_FALSE(may);
  EXPECT_EQ(may.error().code, Code::kUnavailable);
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(1));
}

TEST_F(SqliteSourceTest, WhatIsRemovedFromAReplacedFileIsNotRemoved) {
  SqliteSource source = Source();
  {
    Service service(file_);
    service.Run(kTables);
    service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o')");
    ASSERT_OK(source.Open());
    service.Run("VACUUM INTO '" + file_ + "-copy'");
  }
  const std::vector<Row> rows = Read(source);
  const std::vector<int64_t> positions = Positions(rows);
  ASSERT_THAT(positions, SizeIs(2));
  {
    Service copy(file_ + "-copy");
    copy.Run("PRAGMA journal_mode=WAL");
  }
  for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(file_ + suffix);
  std::filesystem::rename(file_ + "-copy", file_);
  const auto removed = source.Remove(Ids(rows), {});
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Code::kUnavailable);
  EXPECT_FALSE(source.Find(positions)) << "they would be taken for gone";
  ASSERT_OK(source.Open());
  EXPECT_THAT(*source.Find(positions), SizeIs(2));
  ASSERT_OK(source.Remove(Ids(rows), {}));
  EXPECT_THAT(Read(source), IsEmpty());
}

TEST_F(SqliteSourceTest, NoTransactionStaysOpen) {
  Service service(file_);
  service.Run(kTables);
  service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o'), ('b', 'o'), ('c', 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  // 0: it was not busy, so nobody reads or writes.
  const auto idle = [&] { return service.Run("PRAGMA wal_checkpoint(TRUNCATE)") == "0"; };
  EXPECT_TRUE(idle());
  EXPECT_THAT(Read(source, 2), SizeIs(2));
  EXPECT_TRUE(idle());
  ASSERT_OK(source.MayHaveMore());
  EXPECT_TRUE(idle());
  ASSERT_OK(source.Find(std::vector<int64_t>{1, 2}));
  EXPECT_TRUE(idle());
  ASSERT_OK(source.Measure());
  EXPECT_TRUE(idle());
  ASSERT_OK(
      source.Remove(std::vector<RowId>{{1, "a"}}, std::vector<Source::Poison>{{{2, "b"}, "bad"}}));
  EXPECT_TRUE(idle());
}

TEST_F(SqliteSourceTest, FlushesTheLogWhileTheWriterMayGoOn) {
  Service service(file_);
  service.Run(kTables);
  for (int i = 0; i < 500; ++i)
    service.Run("INSERT INTO outbox (id, aggregatetype) VALUES ('a', 'o')");
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<RowId> rows = Ids(Read(source));
  ASSERT_THAT(rows, SizeIs(500));
  std::string left_at_last;
  int flushes = 0;
  OnFlush() = [&, inside = false](const std::string& path) mutable {
    if (inside || !path.ends_with("-wal")) return;
    inside = true;
    ++flushes;
    left_at_last = service.Run("SELECT count(*) FROM outbox");
    service.Run("PRAGMA busy_timeout=0; BEGIN IMMEDIATE; ROLLBACK");
    inside = false;
  };
  ASSERT_OK(source.Remove(rows, {}));
  OnFlush() = nullptr;
  EXPECT_GE(flushes, 3);         // 200 rows at a time.
  EXPECT_EQ(left_at_last, "0");  // All that is gone is flushed.
}

TEST_F(SqliteSourceTest, AConcurrentWriterHardlyWaits) {
  constexpr size_t kBacklog = 50'000;
  Service(file_).Run(kTables);
  SqliteSource source = Source();
  ASSERT_OK(source.Open());
  Service(file_).Run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
                     std::to_string(kBacklog) +
                     ") INSERT INTO outbox (id, aggregatetype, aggregateid, payload) "
                     "SELECT 'backlog-' || i, 'orders', i % 100, zeroblob(300) FROM n");
  std::atomic<bool> done = false;
  std::atomic<size_t> committed = 0;
  std::chrono::nanoseconds longest{};
  std::thread writer([&] {
    Service service(file_);
    service.Run("PRAGMA synchronous=NORMAL");
    std::mt19937 random(3);
    while (!done) {
      const auto begun = steady_clock::now();
      service.Run("BEGIN IMMEDIATE");
      longest = std::max<std::chrono::nanoseconds>(longest, steady_clock::now() - begun);
      service.Run(
          "INSERT INTO outbox (id, aggregatetype, aggregateid, payload) "
          "VALUES ('new', 'orders', 'k', zeroblob(300)); COMMIT");
      ++committed;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    }
  });
  while (committed == 0) std::this_thread::yield();
  const auto begun = steady_clock::now();
  size_t taken = 0;
  int64_t last = 0;
  const auto take = [&] {
    const std::vector<Row> rows = Read(source);
    for (const Row& row : rows) {
      EXPECT_GT(row.position, last);
      last = row.position;
    }
    taken += rows.size();
    ASSERT_OK(source.Remove(Ids(rows), {}));
  };
  while (taken < kBacklog && !HasFailure()) take();
  const double seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  const double rate = static_cast<double>(taken) / seconds;
  done = true;
  writer.join();
  while (!Read(source, 1).empty() && !HasFailure()) take();
  EXPECT_EQ(taken, kBacklog + committed);
  std::printf(
      "sqlite: %.0f rows/s read and removed beside %zu transactions, one of which waited %.1f ms\n",
      rate, committed.load(), std::chrono::duration<double, std::milli>(longest).count());
  EXPECT_LT(longest, 3s);  // Of a machine with much to do; a few milliseconds of a quiet one.
}

// The children die anywhere in their transactions, of which each is there whole or not at all.
TEST_F(SqliteSourceTest, AKilledWriterLeavesWholeTransactions) {
  Service(file_).Run(kTables);
  SqliteSource source = Source();
  std::mt19937 random(7);
  std::map<std::string, int> rows_of;
  int64_t last = 0;
  const auto take = [&] {
    const std::vector<Row> rows = Read(source, 100);
    for (const Row& row : rows) {
      EXPECT_GT(row.position, last);
      last = row.position;
      ++rows_of[row.id];
    }
    ASSERT_OK(source.Remove(Ids(rows), {}));
  };
  for (int child = 0; child < 15; ++child) {
    source.Close(true);  // SQLite does not go across fork.
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      Service service(file_);
      for (int n = 0;; ++n) {
        service.Run("BEGIN IMMEDIATE");
        for (int i = 0; i < 3; ++i) {
          service.Run("INSERT INTO outbox (id, aggregatetype, payload) VALUES ('" +
                      std::to_string(child) + "." + std::to_string(n) + "', 'o', zeroblob(2000))");
        }
        service.Run("COMMIT");
      }
    }
    ASSERT_OK(source.Open());
    const auto end = steady_clock::now() + std::chrono::milliseconds(5 + random() % 40);
    // However slow the disk is, each has committed something before it dies.
    const size_t before = rows_of.size();
    const auto last_try = end + 60s;
    while (steady_clock::now() < end ||
           (rows_of.size() == before && steady_clock::now() < last_try)) {
      take();
    }
    kill(pid, SIGKILL);
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  }
  while (!Read(source, 1).empty()) take();
  EXPECT_GE(rows_of.size(), 15);
  for (const auto& [id, rows] : rows_of) EXPECT_EQ(rows, 3) << id;
}

}  // namespace
}  // namespace holdfast::outbox
