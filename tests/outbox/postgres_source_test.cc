#include "agent/outbox/postgres_source.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <thread>

#include "agent/outbox/outbox_sql.h"
#include "tests/support/certificates.h"
#include "tests/support/postgres_server.h"

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
using ::testing::UnorderedElementsAre;

std::unique_ptr<test::PostgresServer> server;

class Server : public testing::Environment {
 public:
  void SetUp() override {
    server = std::make_unique<test::PostgresServer>(
        std::vector<std::string>{"fsync=off", "max_prepared_transactions=2"});
  }
  void TearDown() override { server.reset(); }
};
const auto* const kServer = testing::AddGlobalTestEnvironment(new Server);

// A service, or an administrator: another connection.
class Client {
 public:
  explicit Client(const std::string& database, const std::string& user = "postgres")
      : connection_(PQconnectdb(server->Connection(database, user).c_str())) {
    EXPECT_EQ(PQstatus(connection_), CONNECTION_OK) << PQerrorMessage(connection_);
    PQsetNoticeProcessor(
        connection_, [](void*, const char*) {}, nullptr);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { PQfinish(connection_); }

  // The first value.
  std::string Run(const std::string& sql) {
    PGresult* result = PQexec(connection_, sql.c_str());
    const ExecStatusType status = PQresultStatus(result);
    EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        << sql << ": " << PQerrorMessage(connection_);
    std::string value = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
    PQclear(result);
    return value;
  }
  // Whether it failed for want of a privilege.
  bool Forbidden(const std::string& sql) {
    PGresult* result = PQexec(connection_, sql.c_str());
    const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const bool forbidden = state != nullptr && std::string_view(state) == "42501";
    PQclear(result);
    return forbidden;
  }

 private:
  PGconn* connection_;
};

TableMapping Mapping(Preset preset, const std::map<std::string, std::string>& properties = {}) {
  auto mapping = TableMapping::Of(preset, properties);
  EXPECT_TRUE(mapping) << mapping.error().message;
  return *mapping;
}

std::vector<int64_t> Positions(const std::vector<Row>& rows) {
  std::vector<int64_t> positions;
  for (const Row& row : rows) positions.push_back(row.position);
  return positions;
}

bool Eventually(const std::function<bool()>& condition, std::chrono::milliseconds within = 20s) {
  for (const auto end = steady_clock::now() + within; steady_clock::now() < end;
       std::this_thread::sleep_for(5ms)) {
    if (condition()) return true;
  }
  return false;
}

class PostgresSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    static std::atomic<int> count{0};
    database_ = fmt::format("test_{}", ++count);
    Client("postgres").Run("CREATE DATABASE " + database_);
    client_ = std::make_unique<Client>(database_);
  }

  void MakeModulithsTable() {
    client_->Run(
        "CREATE TABLE event_publication (id UUID NOT NULL, listener_id TEXT NOT NULL, event_type "
        "TEXT NOT NULL, serialized_event TEXT NOT NULL, publication_date TIMESTAMP WITH TIME ZONE "
        "NOT NULL, completion_date TIMESTAMP WITH TIME ZONE, PRIMARY KEY (id))");
  }
  void MakeTables(Preset preset, const TableMapping& mapping) {
    client_->Run(OutboxSql(preset, mapping, SqlDialect::kPostgres));
  }
  void MakeTables() { MakeTables(Preset::kDebezium, Mapping(Preset::kDebezium)); }

  // 50 ms for each row of `outbox`.
  void RemoveSlowly() {
    client_->Run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM "
        "pg_sleep(0.05); RETURN OLD; END$$; CREATE TRIGGER slowly BEFORE DELETE ON outbox FOR "
        "EACH ROW EXECUTE FUNCTION slowly()");
  }

  PostgresSource::Options OptionsFor(const std::string& agent = "one",
                                     TableMapping mapping = Mapping(Preset::kDebezium)) {
    return {.connection = server->Connection(database_),
            .mapping = std::move(mapping),
            .ownership = ownership_,
            .hash_partitions = parts_,
            .takeover_after = takeover_after_,
            .lease = lease_,
            .agent = agent,
            .taker = {.spool = agent, .delivered = [this] { return delivered_; }}};
  }
  std::unique_ptr<PostgresSource> Opened(PostgresSource::Options options) {
    auto source = std::make_unique<PostgresSource>(std::move(options));
    const auto opened = source->Open();
    EXPECT_TRUE(opened) << opened.error().message;
    return source;
  }
  std::unique_ptr<PostgresSource> Opened(const std::string& agent = "one") {
    return Opened(OptionsFor(agent));
  }

  static std::string Insert(const std::string& key = "k", const std::string& payload = "1") {
    return fmt::format(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, payload) VALUES "
        "(gen_random_uuid(), 'orders', '{}', '{}') RETURNING seq",
        key, payload);
  }
  static std::vector<Row> Read(PostgresSource& source, size_t limit = 1000,
                               const std::vector<std::string>& held = {},
                               const std::vector<RowId>& stuck = {}) {
    auto rows = source.Read(limit, held, stuck);
    EXPECT_TRUE(rows) << rows.error().message;
    return rows ? *std::move(rows) : std::vector<Row>();
  }
  static std::vector<RowId> At(PostgresSource& source, const std::vector<int64_t>& positions) {
    auto found = source.Find(positions);
    EXPECT_TRUE(found) << found.error().message;
    return found ? *std::move(found) : std::vector<RowId>();
  }
  static void Remove(PostgresSource& source, const std::vector<int64_t>& positions) {
    const auto removed = source.Remove(At(source, positions), {});
    EXPECT_TRUE(removed) << removed.error().message;
  }
  static size_t Owned(PostgresSource& source) {
    auto lag = source.Measure();
    EXPECT_TRUE(lag) << lag.error().message;
    if (!lag) return 0;
    return static_cast<size_t>(std::ranges::count_if(lag->parts, &Source::Lag::Part::owned));
  }
  std::string Problem(const PostgresSource::Options& options) {
    PostgresSource source(options);
    const auto opened = source.Open();
    EXPECT_FALSE(opened);
    if (opened) return "";
    EXPECT_EQ(opened.error().code, Code::kInvalid) << opened.error().message;
    return opened.error().message;
  }
  std::string Problem() { return Problem(OptionsFor()); }

  std::string database_;
  std::unique_ptr<Client> client_;
  Ownership ownership_ = Ownership::kAdvisoryLock;
  uint32_t parts_ = 1;
  std::chrono::milliseconds takeover_after_{300'000};
  std::chrono::milliseconds lease_{1'000};
  bool delivered_ = true;
};

// What does not depend on how parts are owned has to be so in both modes.
class InBothModes : public PostgresSourceTest, public testing::WithParamInterface<Ownership> {
 protected:
  void SetUp() override {
    PostgresSourceTest::SetUp();
    ownership_ = GetParam();
  }
};
INSTANTIATE_TEST_SUITE_P(Ownership, InBothModes,
                         testing::Values(Ownership::kAdvisoryLock, Ownership::kLease),
                         [](const auto& mode) {
                           return mode.param == Ownership::kLease ? "Lease" : "AdvisoryLock";
                         });

TEST_P(InBothModes, GivesRowsInOrderAndRemovesThem) {
  MakeTables();
  for (int i = 0; i < 5; ++i) client_->Run(Insert(std::to_string(i)));
  const auto source = Opened();
  const std::vector<Row> rows = Read(*source, 3);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2, 3));
  EXPECT_EQ(rows[0].route, "orders");
  EXPECT_EQ(rows[0].key, "0");
  EXPECT_EQ(rows[0].payload, "1");
  EXPECT_EQ(rows[0].id.size(), 36U);
  EXPECT_EQ(rows[0].timestamp_ms, std::nullopt);
  EXPECT_EQ(rows[0].problem, "");
  EXPECT_THAT(rows[0].fields, ElementsAre(Pair("aggregatetype", "orders")));
  EXPECT_THAT(Positions(Read(*source, 3)), ElementsAre(1, 2, 3));
  ASSERT_TRUE(
      source->Remove(std::vector<RowId>{{1, rows[0].id}, {3, rows[2].id}, {77, rows[0].id}}, {}));
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2, 4, 5));
  const auto found = source->Find(std::vector<int64_t>{1, 2, 77});
  ASSERT_TRUE(found);
  EXPECT_THAT(*found, ElementsAre(RowId{2, rows[1].id}));
}

TEST_P(InBothModes, PassesOverHeldRoutes) {
  MakeTables();
  client_->Run(
      "INSERT INTO outbox (id, aggregatetype, aggregateid) VALUES (gen_random_uuid(), 'a\"\\{}', "
      "''), (gen_random_uuid(), 'b', ''), (gen_random_uuid(), 'c', '')");
  const auto source = Opened();
  EXPECT_THAT(Positions(Read(*source, 10, {"a\"\\{}", "c"})), ElementsAre(2));
  // Also when the floor could have risen meanwhile.
  Remove(*source, {2});
  for (const auto end = steady_clock::now() + 350ms; steady_clock::now() < end;) {
    EXPECT_THAT(Read(*source, 10, {"a\"\\{}", "c"}), IsEmpty());
  }
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(1, 3));
}

// The floor rises while transactions with lower positions are open, and must not pass them.
TEST_P(InBothModes, WaitsForLowPositionsThatAreCommittedLate) {
  MakeTables();
  const auto source = Opened();
  Client slow(database_);
  for (int round = 0; round < 3; ++round) {
    slow.Run("BEGIN");
    const int64_t low = std::stoll(slow.Run(Insert()));
    const int64_t high = std::stoll(client_->Run(Insert()));
    EXPECT_THAT(Positions(Read(*source)), ElementsAre(high));
    Remove(*source, {high});
    for (const auto end = steady_clock::now() + 350ms; steady_clock::now() < end;) {
      EXPECT_THAT(Read(*source), IsEmpty());
    }
    slow.Run("COMMIT");
    EXPECT_THAT(Positions(Read(*source)), ElementsAre(low));
    Remove(*source, {low});
  }
}

TEST_P(InBothModes, WaitsForPreparedTransactions) {
  MakeTables();
  const auto source = Opened();
  Client slow(database_);
  slow.Run("BEGIN");
  slow.Run(Insert());
  client_->Run(Insert());
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2));
  Remove(*source, {2});
  slow.Run("PREPARE TRANSACTION '" + database_ + "'");
  for (const auto end = steady_clock::now() + 350ms; steady_clock::now() < end;) {
    EXPECT_THAT(Read(*source), IsEmpty());
  }
  slow.Run("COMMIT PREPARED '" + database_ + "'");
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(1));
}

// A session may use up its positions long after those of others.
TEST_P(InBothModes, BeginsAtTheLowestPositionIfTheSequenceHasACache) {
  MakeTables();
  client_->Run("ALTER TABLE outbox ALTER seq SET CACHE 10");
  const auto source = Opened();
  Client other(database_);
  other.Run(Insert());
  client_->Run(Insert());
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(1, 11));
  Remove(*source, {1, 11});
  for (const auto end = steady_clock::now() + 350ms; steady_clock::now() < end;) {
    EXPECT_THAT(Read(*source), IsEmpty());
  }
  other.Run(Insert());
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2));
}

// Its positions begin at 1 again, far below all that was read.
TEST_P(InBothModes, BeginsAnewInATableThatWasEmptied) {
  MakeTables();
  const auto source = Opened();
  for (const char* also : {"SELECT 1", "VACUUM FULL outbox"}) {
    SCOPED_TRACE(also);
    for (int i = 0; i < 5; ++i) client_->Run(Insert());
    Remove(*source, Positions(Read(*source)));
    for (const auto end = steady_clock::now() + 350ms; steady_clock::now() < end;) {
      EXPECT_THAT(Read(*source), IsEmpty());
    }
    client_->Run(also);
    client_->Run("TRUNCATE outbox RESTART IDENTITY");
    for (int i = 0; i < 7; ++i) client_->Run(Insert());
    EXPECT_THAT(Positions(Read(*source)), ElementsAre(1, 2, 3, 4, 5, 6, 7));
    Remove(*source, {1, 2, 3, 4, 5, 6, 7});
  }
}

TEST_F(PostgresSourceTest, SaysWhatTheOrderOfPositionsDependsOn) {
  MakeTables();
  const auto doubt = [this] {
    PostgresSource source(OptionsFor());
    const auto sight = source.Look();
    EXPECT_TRUE(sight) << sight.error().message;
    return sight ? sight->doubt : "";
  };
  EXPECT_EQ(doubt(), "");
  for (const auto& [change, why] : {std::pair("SET CACHE 10", "CACHE 10"),
                                    {"SET CACHE 1 SET INCREMENT 50", "INCREMENT BY 50"},
                                    {"SET INCREMENT -1 SET MINVALUE -1000", "INCREMENT BY -1"},
                                    {"SET INCREMENT 1 SET CYCLE", "CYCLE"},
                                    {"DROP IDENTITY", "no sequence that belongs to it"}}) {
    client_->Run(fmt::format("ALTER TABLE outbox ALTER seq {}", change));
    EXPECT_THAT(doubt(), AllOf(HasSubstr("`seq`"), HasSubstr(why))) << change;
  }
  const auto source = Opened();
  EXPECT_THAT(Read(*source), IsEmpty());
}

TEST_P(InBothModes, MissesNoRowOfOverlappingTransactions) {
  MakeTables();
  const auto source = Opened();
  constexpr int kWriters = 4;
  constexpr int kEach = 400;
  std::atomic<int> writing = kWriters;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      Client client(database_);
      unsigned int seed = static_cast<unsigned int>(writer);
      for (int i = 0; i < kEach; ++i) {
        client.Run("BEGIN");
        client.Run(Insert(std::to_string(writer), std::to_string(i)));
        if (rand_r(&seed) % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(writer));
        client.Run("COMMIT");
      }
      --writing;
    });
  }
  std::map<std::string, std::vector<int>> taken;
  while (true) {
    const bool last = writing == 0;
    const std::vector<Row> rows = Read(*source, 50);
    for (const Row& row : rows) taken[*row.key].push_back(std::stoi(*row.payload));
    Remove(*source, Positions(rows));
    if (last && rows.empty()) break;
  }
  for (std::thread& writer : writers) writer.join();
  std::vector<int> all(kEach);
  for (int i = 0; i < kEach; ++i) all[static_cast<size_t>(i)] = i;
  ASSERT_THAT(taken, SizeIs(kWriters));
  for (const auto& [key, values] : taken) EXPECT_EQ(values, all) << key;
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox"), "0");
}

TEST_P(InBothModes, MovesPoisonToTheQuarantine) {
  MakeTables();
  for (int i = 0; i < 3; ++i) client_->Run(Insert());
  client_->Run("ALTER TABLE outbox ADD COLUMN more text");
  const auto source = Opened();
  const auto removed = source->Remove(
      At(*source, {1}), std::vector<Source::Poison>{{At(*source, {2}).at(0), "it is \"bad\" \xff"},
                                                    {{99, "gone"}, "it is gone"}});
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(3));
  EXPECT_EQ(client_->Run("SELECT seq || ' ' || reason FROM outbox_quarantine WHERE aggregateid = "
                         "'k' AND quarantined_at > now() - interval '1 minute'"),
            "2 it is \"bad\" ?");
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox_quarantine"), "1");
  const auto lag = source->Measure();
  ASSERT_TRUE(lag);
  EXPECT_EQ(lag->quarantined, 1U);
  ASSERT_THAT(lag->parts, SizeIs(1));
  EXPECT_EQ(lag->parts[0].rows, 1U);
  EXPECT_TRUE(lag->parts[0].lowest);
  EXPECT_TRUE(lag->parts[0].owned);
}

TEST_P(InBothModes, SaysWhyTheQuarantineRefusesARowAndGoesOn) {
  MakeTables();
  client_->Run("CREATE TABLE holes (id bigint PRIMARY KEY)");
  struct Case {
    std::string quarantine;  // What is done to it,
    std::string refusal;
    std::string repaired;  // and what ends that.
  };
  const std::string alter = "ALTER TABLE \"public\".\"outbox_quarantine\" ";
  const std::vector<Case> cases{
      {.quarantine = "ADD COLUMN who text NOT NULL",
       .refusal = alter + "ALTER COLUMN \"who\" DROP NOT NULL",
       .repaired = "ALTER COLUMN \"who\" DROP NOT NULL"},
      {.quarantine = "ALTER COLUMN payload TYPE bytea USING NULL",
       .refusal = alter + "ALTER COLUMN \"payload\" TYPE jsonb",
       .repaired = "ALTER COLUMN \"payload\" TYPE jsonb USING NULL"},
      {.quarantine = "ALTER COLUMN aggregatetype TYPE varchar(3)",
       .refusal = alter + "ALTER COLUMN \"aggregatetype\" TYPE character varying(255)",
       .repaired = "ALTER COLUMN \"aggregatetype\" TYPE character varying(255)"},
      {.quarantine = "ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY",
       .refusal = alter + "ALTER COLUMN \"seq\" DROP IDENTITY",
       .repaired = "ALTER COLUMN \"seq\" DROP IDENTITY"},
      {.quarantine = "ADD CONSTRAINT no CHECK (reason <> 'bad')",
       .refusal = "check constraint \"no\" (23514)",
       .repaired = "DROP CONSTRAINT no"},
      {.quarantine =
           "ADD COLUMN late bigint DEFAULT 1 REFERENCES holes DEFERRABLE INITIALLY DEFERRED",
       .refusal = "foreign key constraint",
       .repaired = "DROP COLUMN late"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.quarantine);
    client_->Run("DELETE FROM outbox_quarantine");
    client_->Run(alter + one.quarantine);
    const int64_t bad = std::stoll(client_->Run(Insert()));
    const int64_t good = std::stoll(client_->Run(Insert()));
    const auto source = Opened();
    ASSERT_TRUE(Eventually([&] { return Owned(*source) == 1U; })) << "the last session lives on";
    const std::vector<Source::Poison> poison{{At(*source, {bad}).at(0), "bad"}};
    const std::string session =
        "SELECT pid FROM pg_stat_activity WHERE application_name = "
        "'holdfast-outbox' AND datname = current_database()";
    const std::string pid = client_->Run(session);
    const auto refusal = source->Remove({}, poison);
    ASSERT_TRUE(refusal) << refusal.error().message;
    EXPECT_THAT(*refusal, HasSubstr(one.refusal));
    EXPECT_THAT(Positions(Read(*source)), ElementsAre(bad, good));
    Remove(*source, {good});
    client_->Run(alter + one.repaired);
    const auto moved = source->Remove({}, poison);
    ASSERT_TRUE(moved) << moved.error().message;
    EXPECT_EQ(*moved, "");
    EXPECT_THAT(Read(*source), IsEmpty());
    EXPECT_EQ(
        client_->Run("SELECT count(*) FROM outbox_quarantine WHERE seq = " + std::to_string(bad)),
        "1");
    EXPECT_EQ(client_->Run(session), pid) << "connected anew";
  }
}

TEST_P(InBothModes, AMissingQuarantineIsAnError) {
  MakeTables();
  client_->Run(Insert());
  const auto source = Opened();
  const std::vector<Source::Poison> poison{{At(*source, {1}).at(0), "bad"}};
  client_->Run("DROP TABLE outbox_quarantine");
  EXPECT_FALSE(source->Remove({}, poison));
}

TEST_P(InBothModes, PassesOverStuckRows) {
  MakeTables();
  for (int i = 0; i < 3; ++i) client_->Run(Insert());
  const auto source = Opened();
  const std::vector<RowId> rows = At(*source, {1, 2, 3});
  EXPECT_THAT(Positions(Read(*source, 2, {}, {rows[0]})), ElementsAre(2, 3));
  EXPECT_THAT(Positions(Read(*source, 1, {}, {{1, "another"}, rows[1]})), ElementsAre(1));
}

// As by TRUNCATE RESTART IDENTITY between a read and the removal.
TEST_P(InBothModes, LeavesARowThatTookThePositionOfAnother) {
  MakeTables();
  const auto source = Opened();
  for (const auto& [type, id] : {std::pair("text", "gen_random_uuid()"),
                                 {"uuid", "gen_random_uuid()"},
                                 {"bytea", "convert_to(gen_random_uuid()::text, 'UTF8')"}}) {
    SCOPED_TRACE(type);
    for (const char* table : {"outbox", "outbox_quarantine"}) {
      client_->Run(
          fmt::format("TRUNCATE {0} RESTART IDENTITY; ALTER TABLE {0} DROP COLUMN id; "
                      "ALTER TABLE {0} ADD COLUMN id {1}",
                      table, type));
    }
    ASSERT_TRUE(source->Open());
    // The server gives back the lock of the connection that was closed some time soon.
    ASSERT_TRUE(Eventually([&] { return Owned(*source) == 1; }));
    const auto insert = [&, id = id] {
      client_->Run(
          fmt::format("INSERT INTO outbox (id, aggregatetype, aggregateid) SELECT {}, 'r', "
                      "'k' FROM generate_series(1, 4)",
                      id));
    };
    insert();
    const std::vector<RowId> before = At(*source, {1, 2, 3, 4});
    ASSERT_THAT(before, SizeIs(4));
    client_->Run("TRUNCATE outbox RESTART IDENTITY");
    insert();
    const std::vector<RowId> after = At(*source, {1, 2, 3, 4});
    const auto removed = source->Remove(
        std::vector<RowId>{before[0], after[1]},
        std::vector<Source::Poison>{{before[2], "not this one"}, {after[3], "this one"}});
    ASSERT_TRUE(removed) << removed.error().message;
    EXPECT_THAT(At(*source, {1, 2, 3, 4}), ElementsAre(after[0], after[2]));
    EXPECT_EQ(client_->Run("SELECT string_agg(reason, ',') FROM outbox_quarantine"), "this one");
  }
}

TEST_P(InBothModes, SaysThatARowCouldNotBeRemoved) {
  MakeTables();
  client_->Run(Insert());
  const auto source = Opened();
  const std::vector<RowId> rows = At(*source, {1});
  // Its id is written in another way now.
  client_->Run("ALTER TABLE outbox ALTER COLUMN id TYPE bytea USING convert_to(id::text, 'UTF8')");
  EXPECT_FALSE(source->Remove(rows, {})) << "it would be taken for gone, and sent again";
  ASSERT_TRUE(source->Open());
  client_->Run(
      "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE "
      "TRIGGER keep BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep()");
  const auto kept = source->Remove(rows, {});
  ASSERT_FALSE(kept);
  EXPECT_THAT(kept.error().message, HasSubstr("the row at 1 could not be removed"));
  client_->Run("DROP TRIGGER keep ON outbox");
  ASSERT_TRUE(source->Open());
  Remove(*source, {1});
  EXPECT_THAT(Read(*source), IsEmpty());
}

TEST_P(InBothModes, ThePositionMayBeTheId) {
  const TableMapping mapping = Mapping(Preset::kDebezium, {{"table.field.event.id", "seq"}});
  MakeTables();
  for (int i = 0; i < 3; ++i) client_->Run(Insert());
  const auto source = Opened(OptionsFor("one", mapping));
  const std::vector<Row> rows = Read(*source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2, 3));
  EXPECT_EQ(rows[2].id, "3");
  EXPECT_THAT(At(*source, {2, 3}), ElementsAre(RowId{2, "2"}, RowId{3, "3"}));
  const auto removed = source->Remove(std::vector<RowId>{{1, "1"}, {2, "other"}},
                                      std::vector<Source::Poison>{{{3, "3"}, "bad"}});
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2));
  EXPECT_EQ(client_->Run("SELECT string_agg(reason, ',') FROM outbox_quarantine"), "bad");
}

// The service keeps them, and its rows say that they are sent.
TEST_P(InBothModes, ARowMayBeMarkedWhereItIsToBeRemoved) {
  const TableMapping mapping = Mapping(Preset::kModulith);
  MakeModulithsTable();
  MakeTables(Preset::kModulith, mapping);
  client_->Run(
      "CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE event_publication "
      "SET completion_date = now() WHERE ctid = OLD.ctid; RETURN NULL; END'; CREATE TRIGGER mark "
      "BEFORE DELETE ON event_publication FOR EACH ROW EXECUTE FUNCTION mark()");
  client_->Run(
      "INSERT INTO event_publication (id, listener_id, event_type, serialized_event, "
      "publication_date) VALUES (gen_random_uuid(), 'l', 't', '{}', now())");
  const auto source = Opened(OptionsFor("one", mapping));
  const std::vector<Row> rows = Read(*source);
  ASSERT_THAT(rows, SizeIs(1));
  const auto removed = source->Remove(std::vector<RowId>{{rows[0].position, rows[0].id}}, {});
  EXPECT_TRUE(removed) << removed.error().message;
  EXPECT_THAT(Read(*source), IsEmpty());
}

TEST_P(InBothModes, GoesOnAfterTheServerWasKilled) {
  MakeTables();
  for (int i = 0; i < 3; ++i) client_->Run(Insert());
  const auto source = Opened();
  EXPECT_THAT(Read(*source), SizeIs(3));
  Remove(*source, {1});
  server->Kill();
  const auto lost = source->Remove(std::vector<RowId>{{2, "id"}}, {});
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Code::kUnavailable) << lost.error().message;
  const auto refused = source->Open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable) << refused.error().message;
  EXPECT_FALSE(source->Read(1, {}, {}));
  EXPECT_FALSE(source->Find(std::vector<int64_t>{1}));
  EXPECT_FALSE(source->Measure());
  server->Start();
  const auto opened = source->Open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2, 3));
}

TEST_F(PostgresSourceTest, GivesPayloadsAsTheyAre) {
  const TableMapping mapping = Mapping(Preset::kDebezium);
  MakeTables();
  const std::map<std::string, std::pair<std::string, std::string>> written{
      {"bytea", {"'\\x00ff5c78'", std::string("\0\xff\\x", 4)}},
      {"text", {"'\\x00 text ä'", "\\x00 text ä"}},
      {"json", {"'{\"b\" : 1, \"a\":2}'", "{\"b\" : 1, \"a\":2}"}},
      {"jsonb", {"'{\"b\" : 1, \"a\":2}'", "{\"a\": 2, \"b\": 1}"}},
      {"varchar(9)", {"''", ""}},
  };
  for (const auto& [type, value] : written) {
    client_->Run("TRUNCATE outbox");
    for (const char* table : {"outbox", "outbox_quarantine"}) {
      client_->Run(fmt::format("ALTER TABLE {} DROP COLUMN payload", table));
      client_->Run(fmt::format("ALTER TABLE {} ADD COLUMN payload {}", table, type));
    }
    client_->Run(
        fmt::format("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) VALUES "
                    "(gen_random_uuid(), 'r', 'k', {}), (gen_random_uuid(), 'r', 'k', "
                    "NULL)",
                    value.first));
    const auto source = Opened();
    const std::vector<Row> rows = Read(*source);
    ASSERT_THAT(rows, SizeIs(2)) << type;
    EXPECT_EQ(rows[0].payload, value.second) << type;
    EXPECT_EQ(rows[1].payload, std::nullopt) << type;
  }
}

TEST_P(InBothModes, NoticesThatAColumnGotAnotherType) {
  const std::vector<std::pair<std::string, std::string>> types{
      {"bytea", "convert_to(payload, 'UTF8')"},
      {"text", "convert_from(payload, 'UTF8')"},
      {"jsonb", "payload::jsonb"},
      {"bytea", "convert_to(payload::text, 'UTF8')"},
  };
  MakeTables();
  client_->Run("ALTER TABLE outbox ALTER COLUMN payload TYPE text");
  const auto source = Opened();
  client_->Run(Insert("k", R"({"a": "\\x"})"));
  const std::optional<std::string> payload = Read(*source).at(0).payload;
  for (const auto& [type, of_old] : types) {
    client_->Run(
        fmt::format("ALTER TABLE outbox ALTER COLUMN payload TYPE {} USING {}", type, of_old));
    EXPECT_FALSE(source->Read(10, {}, {})) << type;
    ASSERT_TRUE(source->Open());
    EXPECT_EQ(Read(*source).at(0).payload, payload) << type;
  }
  const std::vector<int64_t> positions = Positions(Read(*source));
  const auto noted = source->Find(positions);
  client_->Run("ALTER TABLE outbox ALTER COLUMN id TYPE bytea USING convert_to(id::text, 'UTF8')");
  EXPECT_FALSE(source->Find(positions)) << "what was noted would not be found";
  ASSERT_TRUE(source->Open());
  EXPECT_EQ(*source->Find(positions), *noted);
}

TEST_F(PostgresSourceTest, GivesTimesPartitionsAndHeaders) {
  const TableMapping mapping =
      Mapping(Preset::kDebezium,
              {{"table.field.event.timestamp", "at"},
               {"table.fields.additional.placement", "type:header:event,flag:header,p:partition"}});
  MakeTables(Preset::kDebezium, mapping);
  for (const char* type : {"timestamptz", "timestamp", "bigint"}) {
    client_->Run("TRUNCATE outbox");
    for (const char* table : {"outbox", "outbox_quarantine"}) {
      client_->Run(
          fmt::format("ALTER TABLE {0} DROP COLUMN at, DROP COLUMN flag, DROP COLUMN p; "
                      "ALTER TABLE {0} ADD COLUMN at {1}, ADD COLUMN flag bool, ADD p "
                      "bigint",
                      table, type));
    }
    const bool number = std::string_view(type) == "bigint";
    client_->Run(fmt::format(
        "SET TIME ZONE 'UTC'; INSERT INTO outbox (id, aggregatetype, aggregateid, type, flag, p, "
        "at) VALUES (gen_random_uuid(), 'r', 'k', 'made', true, 7, {}), (gen_random_uuid(), 'r', "
        "'k', NULL, NULL, NULL, NULL), (gen_random_uuid(), 'r', 'k', '', false, -1, {})",
        number ? "1700000000123" : "'2023-11-14 22:13:20.1239'", number ? "1" : "'infinity'"));
    const auto source = Opened(OptionsFor("one", mapping));
    const std::vector<Row> rows = Read(*source);
    ASSERT_THAT(rows, SizeIs(3)) << type;
    EXPECT_EQ(rows[0].timestamp_ms, 1700000000123) << type;
    EXPECT_EQ(rows[0].partition, 7);
    EXPECT_THAT(rows[0].headers, ElementsAre(Pair("event", "made"), Pair("flag", "true")));
    EXPECT_EQ(rows[1].timestamp_ms, std::nullopt);
    EXPECT_EQ(rows[1].partition, std::nullopt);
    EXPECT_THAT(rows[1].headers,
                ElementsAre(Pair("event", std::nullopt), Pair("flag", std::nullopt)));
    EXPECT_EQ(rows[1].problem, "");
    EXPECT_EQ(rows[2].problem, number ? "the column `p` is no partition: `-1`"
                                      : "the column `at` is no time: `infinity`");
  }
}

TEST_F(PostgresSourceTest, SaysWhichRowCannotBeRead) {
  MakeTables();
  client_->Run("ALTER TABLE outbox ALTER id DROP NOT NULL, ALTER aggregatetype DROP NOT NULL");
  client_->Run(
      "INSERT INTO outbox (id, aggregatetype, aggregateid) VALUES (NULL, 'r', 'k'), "
      "(gen_random_uuid(), NULL, 'k'), (gen_random_uuid(), 'r', 'k')");
  const auto source = Opened();
  const std::vector<Row> rows = Read(*source, 10, {"another"});
  ASSERT_THAT(rows, SizeIs(3));
  EXPECT_EQ(rows[0].problem, "the column `id` is null, and holds the event's id");
  EXPECT_EQ(rows[1].problem, "the column `aggregatetype` is null, and says to which topic");
  EXPECT_EQ(rows[2].problem, "");
}

TEST_F(PostgresSourceTest, TakesEventuatesTable) {
  client_->Run(
      "CREATE SCHEMA eventuate; CREATE TABLE eventuate.message (id VARCHAR(1000) PRIMARY KEY, "
      "destination TEXT NOT NULL, headers TEXT NOT NULL, payload TEXT NOT NULL, published SMALLINT "
      "DEFAULT 0, message_partition SMALLINT, creation_time BIGINT)");
  const TableMapping mapping = Mapping(Preset::kEventuate);
  for (int i = 0; i < 2; ++i) MakeTables(Preset::kEventuate, mapping);
  for (const char* headers : {R"({"PARTITION_ID":"7","a":null})", "{oops", R"({"x":1})"}) {
    client_->Run(
        fmt::format("INSERT INTO eventuate.message (id, destination, headers, payload, "
                    "creation_time) VALUES (gen_random_uuid(), 'd', '{}', '{{}}', 5)",
                    headers));
  }
  parts_ = 3;
  const auto source = Opened(OptionsFor("one", mapping));
  const std::vector<Row> rows = Read(*source);
  ASSERT_THAT(rows, SizeIs(3));
  EXPECT_EQ(rows[0].key, "7");
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("PARTITION_ID", "7"), Pair("a", std::nullopt)));
  EXPECT_EQ(rows[0].timestamp_ms, 5);
  EXPECT_THAT(rows[1].problem, HasSubstr("the column `headers`"));
  EXPECT_EQ(rows[2].problem, "");
  EXPECT_EQ(rows[2].key, std::nullopt);
  ASSERT_TRUE(source->Measure());
  ASSERT_TRUE(source->Remove(At(*source, {1, 3}),
                             std::vector<Source::Poison>{{{2, rows[1].id}, rows[1].problem}}));
  EXPECT_EQ(client_->Run("SELECT headers FROM eventuate.message_quarantine"), "{oops");
}

TEST_F(PostgresSourceTest, TakesModulithsTable) {
  MakeModulithsTable();
  const TableMapping mapping = Mapping(Preset::kModulith);
  for (int i = 0; i < 2; ++i) MakeTables(Preset::kModulith, mapping);
  client_->Run(
      "INSERT INTO event_publication VALUES (gen_random_uuid(), 'l', 'T', '{}', now(), now()), "
      "(gen_random_uuid(), 'l', 'T', '{}', now(), NULL)");
  const auto source = Opened(OptionsFor("one", mapping));
  const std::vector<Row> rows = Read(*source);
  ASSERT_THAT(Positions(rows), ElementsAre(2));
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("listener_id", "l")));
  EXPECT_EQ(rows[0].key, std::nullopt);
  Remove(*source, {2});
  EXPECT_EQ(client_->Run("SELECT count(*) FROM event_publication"), "1");
}

TEST_F(PostgresSourceTest, SaysAllThatIsWrongWithTheSchemaAtOnce) {
  EXPECT_THAT(Problem(), HasSubstr("there is no table `outbox` in the search path"));
  client_->Run("CREATE VIEW outbox AS SELECT 1 AS seq");
  EXPECT_THAT(Problem(), HasSubstr("`outbox` is no table"));
  client_->Run("DROP VIEW outbox");
  client_->Run("CREATE TABLE outbox (seq bigint, id uuid, aggregatetype int[], payload point)");
  EXPECT_THAT(
      Problem(),
      AllOf(HasSubstr("table `outbox` has no column `aggregateid` (the key)"),
            HasSubstr("the column `aggregatetype` (which topic) is of type _int4"),
            HasSubstr("the column `payload` (the payload) is of type point, and has to be bytea"),
            HasSubstr("ALTER TABLE \"public\".\"outbox\" ALTER COLUMN \"seq\" SET NOT NULL"),
            HasSubstr("CREATE UNIQUE INDEX CONCURRENTLY ON \"public\".\"outbox\" (\"seq\")"),
            HasSubstr("there is no table `outbox_quarantine` in schema `public`"),
            HasSubstr("there is no table `holdfast_outbox_owner` in schema `public`"),
            HasSubstr("there is no table `holdfast_outbox_agent` in schema `public`"),
            HasSubstr("`holdfast outbox sql` prints")));
  client_->Run("DROP TABLE outbox");
  MakeTables();
  client_->Run("ALTER TABLE outbox_quarantine DROP COLUMN payload");
  EXPECT_THAT(Problem(),
              HasSubstr("table `outbox_quarantine` has no column `payload`: ALTER TABLE "
                        "\"public\".\"outbox_quarantine\" ADD COLUMN \"payload\" jsonb"));
  TableMapping other = Mapping(Preset::kDebezium);
  other.table = "elsewhere.outbox";
  EXPECT_THAT(Problem(OptionsFor("one", other)),
              HasSubstr("there is no table `outbox` in schema `elsewhere`"));
}

TEST_F(PostgresSourceTest, SaysWhatIsWrongWithTheConnection) {
  PostgresSource::Options options = OptionsFor();
  options.connection = "password=secret nonsense";
  EXPECT_THAT(Problem(options), AllOf(HasSubstr("host="), Not(HasSubstr("secret"))));
  options.connection = server->Connection("nowhere");
  EXPECT_THAT(Problem(options), HasSubstr("database \"nowhere\" does not exist"));
  options.connection = server->Connection(database_, "nobody");
  EXPECT_THAT(Problem(options), HasSubstr("role \"nobody\" does not exist"));
  options.connection = server->Connection(database_) + " sslmode=require";
  EXPECT_THAT(Problem(options), HasSubstr("server does not support SSL"));
  options.connection = "host=127.0.0.1 port=1 user=postgres";
  PostgresSource nobody(options);
  const auto refused = nobody.Open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
}

TEST_P(InBothModes, SpeaksTlsAndChecksTheServersName) {
  MakeTables();
  client_->Run(Insert());
  const test::TestDirectory directory;
  test::TestAuthority(directory, "ca").Issue("server", {.name = "db", .hosts = "DNS:localhost"});
  namespace fs = std::filesystem;
  struct stat owner {};
  ASSERT_EQ(stat(server->directory().c_str(), &owner), 0);
  for (const char* name : {"server.pem", "server.key"}) {
    const std::string place = server->directory() + "/" + name;
    fs::copy_file(directory.File(name), place, fs::copy_options::overwrite_existing);
    fs::permissions(place, fs::perms::owner_read);
    ASSERT_EQ(chown(place.c_str(), owner.st_uid, owner.st_gid), 0);
  }
  client_->Run("ALTER SYSTEM SET ssl_cert_file = '" + server->directory() + "/server.pem'");
  client_->Run("ALTER SYSTEM SET ssl_key_file = '" + server->directory() + "/server.key'");
  client_->Run("ALTER SYSTEM SET ssl = on");
  client_->Run("SELECT pg_reload_conf()");
  PostgresSource::Options options = OptionsFor();
  options.connection += " sslmode=verify-full sslrootcert=" + directory.File("ca.pem");
  EXPECT_TRUE(Eventually([&] {
    return Client(database_).Run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t";
  }));
  EXPECT_THAT(Problem(options), HasSubstr("does not match host name"));
  options.connection += " host=localhost hostaddr=127.0.0.1";
  const auto source = Opened(options);
  EXPECT_THAT(Read(*source), SizeIs(1));
  EXPECT_EQ(client_->Run("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE "
                         "application_name = 'holdfast-outbox'"),
            "t");
  client_->Run("ALTER SYSTEM RESET ALL");
  client_->Run("SELECT pg_reload_conf()");
  EXPECT_TRUE(Eventually([&] {
    return Client(database_).Run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "f";
  }));
}

TEST_P(InBothModes, NeedsThePrintedGrantsAndNoMore) {
  TableMapping mapping = Mapping(Preset::kDebezium);
  mapping.table = "app.outbox";
  client_->Run("CREATE SCHEMA app");
  MakeTables(Preset::kDebezium, mapping);
  const std::string agent = database_ + "_agent";
  const std::string service = database_ + "_service";
  client_->Run(fmt::format("CREATE ROLE {} LOGIN; CREATE ROLE {} LOGIN", agent, service));
  PostgresSource::Options options = OptionsFor("one", mapping);
  options.connection = server->Connection(database_, agent);
  options.hash_partitions = 2;
  EXPECT_THAT(
      Problem(options),
      AllOf(HasSubstr(fmt::format("GRANT USAGE ON SCHEMA \"app\" TO \"{}\"", agent)),
            HasSubstr("GRANT SELECT, DELETE ON \"app\".\"outbox\" TO"),
            HasSubstr("GRANT SELECT, INSERT ON \"app\".\"outbox_quarantine\" TO"),
            HasSubstr("GRANT SELECT, INSERT, UPDATE ON \"app\".\"holdfast_outbox_owner\" TO"),
            HasSubstr(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON \"app\".\"holdfast_outbox_agent\" TO")));

  std::string sql = OutboxSql(Preset::kDebezium, mapping, SqlDialect::kPostgres);
  constexpr std::string_view kGrant = "-- GRANT";
  size_t grants = 0;
  for (size_t at = sql.find(kGrant); at != std::string::npos; at = sql.find(kGrant, at)) {
    std::string grant = sql.substr(at + 3, sql.find('\n', at) - at - 3);
    at += kGrant.size();
    for (const auto& [name, role] : {std::pair<std::string, std::string>{" holdfast", " " + agent},
                                     {" service", " " + service}}) {
      if (const size_t found = grant.rfind(name); found != std::string::npos) {
        grant.replace(found, name.size(), role);
      }
    }
    client_->Run(grant);
    ++grants;
  }
  EXPECT_EQ(grants, 6U);

  Client writer(database_, service);
  writer.Run(
      "INSERT INTO app.outbox (id, aggregatetype, aggregateid) VALUES (gen_random_uuid(), 'r', "
      "'k'), (gen_random_uuid(), 'r', 'l')");
  EXPECT_TRUE(writer.Forbidden("SELECT * FROM app.outbox"));
  EXPECT_TRUE(writer.Forbidden("DELETE FROM app.outbox"));
  EXPECT_TRUE(Client(database_, agent).Forbidden("INSERT INTO app.outbox DEFAULT VALUES"));
  const auto source = Opened(options);
  EXPECT_THAT(Read(*source), SizeIs(2));
  const auto removed = source->Remove(At(*source, {1}),
                                      std::vector<Source::Poison>{{At(*source, {2}).at(0), "bad"}});
  EXPECT_TRUE(removed) << removed.error().message;
  EXPECT_TRUE(source->Measure());
  source->Close(true);
  EXPECT_EQ(client_->Run("SELECT bool_and(clean) FROM app.holdfast_outbox_owner"), "t");
  client_->Run(fmt::format("DROP OWNED BY {0}, {1}; DROP ROLE {0}, {1}", agent, service));
}

// A planner that knows nothing of the table would sort it as a whole.
TEST_P(InBothModes, UsesTheIndexWhateverTheStatisticsSay) {
  MakeTables();
  client_->Run("ALTER TABLE outbox SET (autovacuum_enabled = false)");
  client_->Run(
      "INSERT INTO outbox (id, aggregatetype, aggregateid, payload) SELECT gen_random_uuid(), "
      "'orders', i::text, '1' FROM generate_series(1, 2000) AS i");
  const std::string scans =
      "SELECT coalesce(sum({}), 0) FROM pg_stat_user_tables WHERE relname = 'outbox'";
  // The scan that made the index, too, which the server may count a second later otherwise.
  client_->Run("SELECT pg_stat_force_next_flush()");
  const std::string before = client_->Run(fmt::format(fmt::runtime(scans), "seq_scan"));
  const auto source = Opened();
  for (int i = 0; i < 2; ++i) Remove(*source, Positions(Read(*source, 1000)));
  EXPECT_THAT(Read(*source), IsEmpty());
  source->Close(true);  // Its counts arrive.
  EXPECT_TRUE(Eventually(
      [&] { return std::stoi(client_->Run(fmt::format(fmt::runtime(scans), "idx_scan"))) >= 5; }));
  EXPECT_EQ(client_->Run(fmt::format(fmt::runtime(scans), "seq_scan")), before);
}

TEST_P(InBothModes, ReadsNoMoreThanFitsInMemory) {
  MakeTables();
  client_->Run("ALTER TABLE outbox ALTER payload TYPE text");
  client_->Run(
      "INSERT INTO outbox (id, aggregatetype, aggregateid, payload) SELECT gen_random_uuid(), 'r', "
      "'k', repeat('x', bytes) FROM unnest(ARRAY[5000000, 20000000, 1000000, 1000000]) AS bytes");
  const auto source = Opened();
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(1, 2));
  Remove(*source, {1});
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(2));
  Remove(*source, {2});
  EXPECT_THAT(Positions(Read(*source)), ElementsAre(3, 4));
}

TEST_F(PostgresSourceTest, AReadIsBoundedByTheBytesOfAllColumns) {
  const TableMapping mapping = Mapping(
      Preset::kDebezium, {{"table.fields.additional.placement", "type:header,more:header"}});
  MakeTables();
  for (const char* table : {"outbox", "outbox_quarantine"}) {
    client_->Run(
        fmt::format("ALTER TABLE {} ADD COLUMN more bytea, ALTER payload TYPE jsonb USING "
                    "payload::text::jsonb",
                    table));
  }
  // Compressed, they are a hundredth of that.
  const std::string mebibyte = "repeat('x', 1048576)";
  const std::map<std::string, std::string> wide{{"type", mebibyte},
                                                {"more", mebibyte + "::bytea"},
                                                {"payload", "to_jsonb(" + mebibyte + ")"}};
  for (const auto& [column, value] : wide) {
    SCOPED_TRACE(column);
    client_->Run("TRUNCATE outbox");
    client_->Run(
        fmt::format("ALTER TABLE outbox ALTER type TYPE text; INSERT INTO outbox (id, "
                    "aggregatetype, aggregateid, {}) SELECT gen_random_uuid(), 'r', 'k', "
                    "{} FROM generate_series(1, 40)",
                    column, value));
    const auto source = Opened(OptionsFor("one", mapping));
    const std::vector<Row> rows = Read(*source);
    ASSERT_THAT(rows, SizeIs(PostgresSource::kReadBytes >> 20));
    EXPECT_LT(MemoryOf(rows[0]), (size_t{1} << 20) + 1000) << "it is kept once";
    source->Close(true);
  }
}

// As over a slow link.
TEST_F(PostgresSourceTest, AnAnswerThatComesSlowlyIsAwaited) {
  auto connection = PostgresConnection::Open(server->Connection(database_), /*pooled=*/false,
                                             {.statement = 60s, .answer = 2s});
  ASSERT_TRUE(connection) << connection.error().message;
  // More than the server keeps before it sends them.
  const auto rows =
      connection->Execute("SELECT repeat('x', 9000), pg_sleep(0.3) FROM generate_series(1, 10)");
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->count(), 10);
}

TEST_P(InBothModes, AsksForLessAndLessUntilItIsThereInTime) {
  const TableMapping mapping =
      Mapping(Preset::kDebezium, {{"table.fields.additional.placement", "slow:header"}});
  MakeTables();
  const auto text_takes = [this](const char* seconds) {
    client_->Run(
        fmt::format("CREATE OR REPLACE FUNCTION slow_text(slow) RETURNS text LANGUAGE "
                    "plpgsql AS $$BEGIN PERFORM pg_sleep({}); RETURN 'x'; END$$",
                    seconds));
  };
  client_->Run("CREATE TYPE slow AS ENUM ('x')");
  text_takes("2.5");
  client_->Run(
      "CREATE CAST (slow AS text) WITH FUNCTION slow_text(slow); ALTER TABLE outbox ADD COLUMN "
      "slow slow DEFAULT 'x'; ALTER TABLE outbox_quarantine ADD COLUMN slow slow");
  for (int i = 0; i < 4; ++i) client_->Run(Insert());
  PostgresSource::Options options = OptionsFor("one", mapping);
  // One row takes longer than a statement may, and two than the agent waits.
  options.timeouts = {.statement = 2s, .answer = 4s};
  lease_ = 60s;
  options.lease = lease_;
  const auto source = std::make_unique<PostgresSource>(options);
  std::vector<Row> rows;
  int failed = 0;
  ASSERT_TRUE(Eventually(
      [&] {
        if (!source->Open()) return false;
        auto some = source->Read(4, {}, {});
        if (some) rows = *std::move(some);
        failed += some ? 0 : 1;
        return !rows.empty();
      },
      60s));
  EXPECT_THAT(Positions(rows), ElementsAre(1));
  EXPECT_GE(failed, 2);
  // In time, and not quick.
  text_takes("0.6");
  EXPECT_THAT(Read(*source, 4), SizeIs(1));
  EXPECT_TRUE(Eventually([&] { return Read(*source, 4).size() == 2; }, 60s));
  text_takes("0");
  EXPECT_THAT(Read(*source, 4), SizeIs(2));
  EXPECT_TRUE(Eventually([&] { return Read(*source, 4).size() == 4; }));
}

TEST_P(InBothModes, RemovesLessAndLessUntilItIsDoneInTime) {
  MakeTables();
  RemoveSlowly();
  lease_ = 60s;
  PostgresSource::Options options = OptionsFor();
  options.timeouts = {.statement = 1s, .answer = 4s};
  const auto source = std::make_unique<PostgresSource>(options);
  for (const bool good : {true, false}) {
    SCOPED_TRACE(good);
    client_->Run(
        "INSERT INTO outbox (id, aggregatetype, aggregateid) SELECT gen_random_uuid(), 'r', 'k' "
        "FROM generate_series(1, 60)");
    ASSERT_TRUE(source->Open());
    ASSERT_TRUE(Eventually([&] { return Owned(*source) == 1; }));
    const std::vector<Row> rows = Read(*source);
    ASSERT_THAT(rows, SizeIs(60));
    std::vector<RowId> spooled;
    std::vector<Source::Poison> poison;
    for (const Row& row : rows) {
      if (good) {
        spooled.push_back({row.position, row.id});
      } else {
        poison.push_back({{row.position, row.id}, "bad"});
      }
    }
    // As the agent does after an error.
    EXPECT_TRUE(Eventually(
        [&] {
          if (!source->Open()) return false;
          const auto removed = source->Remove(spooled, poison);
          return removed && removed->empty();
        },
        40s));
    EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox"), "0");
  }
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox_quarantine"), "60");
}

TEST_F(PostgresSourceTest, ALongRemovalKeepsTheLease) {
  ownership_ = Ownership::kLease;
  lease_ = 3s;
  MakeTables();
  RemoveSlowly();
  client_->Run(
      "INSERT INTO outbox (id, aggregatetype, aggregateid) SELECT gen_random_uuid(), 'r', 'k' "
      "FROM generate_series(1, 90)");
  PostgresSource::Options options = OptionsFor();
  options.timeouts = {.statement = 1s, .answer = 4s};
  const auto source = Opened(options);
  std::vector<RowId> spooled;
  for (const Row& row : Read(*source)) spooled.push_back({row.position, row.id});
  ASSERT_THAT(spooled, SizeIs(90));
  EXPECT_TRUE(Eventually(
      [&] { return source->Open().has_value() && source->Remove(spooled, {}).has_value(); }, 40s));
  EXPECT_EQ(client_->Run("SELECT expires_at > clock_timestamp() FROM holdfast_outbox_owner"), "t");
}

// A read that has to wait while `meanwhile` runs.
using ReadDone = std::future<base::Result<std::vector<Row>>>;
base::Result<std::vector<Row>> ReadLocked(
    PostgresSource& source, const std::string& database,
    const std::function<void(Client& other, const ReadDone& read)>& meanwhile) {
  Client lock(database);
  lock.Run("BEGIN");
  lock.Run("LOCK TABLE outbox");
  ReadDone read = std::async(std::launch::async, [&source] { return source.Read(10, {}, {}); });
  Client other(database);
  EXPECT_TRUE(Eventually([&other] {
    return other.Run(
               "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = "
               "'outbox'::regclass") == "1";
  }));
  meanwhile(other, read);
  lock.Run("COMMIT");
  return read.get();
}

TEST_F(PostgresSourceTest, ALongReadGivesNoRowsOfALeaseThatWasLostMeanwhile) {
  ownership_ = Ownership::kLease;
  lease_ = 300ms;
  MakeTables();
  client_->Run(Insert());
  const auto source = Opened();
  const auto kept = ReadLocked(*source, database_, [](Client& other, const ReadDone&) {
    other.Run("UPDATE holdfast_outbox_owner SET expires_at = now() - interval '1 hour'");
    other.Run("SELECT pg_sleep(0.2)");  // More than a third of the lease.
  });
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_THAT(*kept, SizeIs(1));
  EXPECT_EQ(client_->Run("SELECT expires_at > now() - interval '1 min' FROM holdfast_outbox_owner"),
            "t");
  const auto lost = ReadLocked(*source, database_, [](Client& other, const ReadDone&) {
    other.Run("UPDATE holdfast_outbox_owner SET agent = 'two#two'");
    other.Run("SELECT pg_sleep(0.2)");
  });
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Code::kUnavailable);
  EXPECT_THAT(lost.error().message, HasSubstr("another agent took over"));
}

TEST_P(InBothModes, GivesUpAReadWhenItIsToldTo) {
  MakeTables();
  const auto source = Opened();
  const auto given_up = ReadLocked(*source, database_, [&](Client&, const ReadDone& read) {
    source->GiveUp();
    read.wait();
  });
  ASSERT_FALSE(given_up);
  EXPECT_THAT(given_up.error().message, HasSubstr("before the agent stopped"));
  source->Close(/*clean=*/true);
}

TEST_P(InBothModes, AgentsHaveToAgreeOnTheNumberOfParts) {
  lease_ = 6s;  // An agent that was not heard of for longer is not asked to agree.
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  parts_ = 4;
  const auto two = std::make_unique<PostgresSource>(OptionsFor("two"));
  for (const auto end = steady_clock::now() + lease_ / 2; steady_clock::now() < end;
       std::this_thread::sleep_for(20ms)) {
    const auto refused = two->Open();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kInvalid);
    EXPECT_THAT(
        refused.error().message,
        HasSubstr("this agent divides it into 4 parts (hash_partitions), and `one#one` into 1:"));
    ASSERT_THAT(Read(*one), SizeIs(1)) << "the one that is wrong stops the other";
  }
}

// What an agent took of a part may be of any part of another number.
TEST_P(InBothModes, TheNumberOfPartsChangesWhenAllIsDelivered) {
  parts_ = 2;
  MakeTables();
  client_->Run(Insert());
  const auto refusal = [this](const std::string& agent) {
    const auto opened = PostgresSource(OptionsFor(agent)).Open();
    return opened ? std::string() : opened.error().message;
  };
  // By an agent that ends without a word, and by one whose connection is lost.
  for (const bool says_so : {false, true}) {
    for (const uint32_t other : {4, 2}) {
      SCOPED_TRACE(fmt::format("{} {}", says_so, other));
      auto one = Opened("one");
      ASSERT_TRUE(Eventually([&] { return Owned(*one) == parts_; }));
      if (says_so) one->Close(/*clean=*/false);
      one.reset();
      client_->Run("UPDATE holdfast_outbox_agent SET seen_at = now() - interval '2 days'");
      const uint32_t before = std::exchange(parts_, other);
      for (int i = 0; i < 2; ++i) {
        EXPECT_THAT(refusal("two"),
                    AllOf(HasSubstr("`one#one`"), HasSubstr(fmt::format("into {}", before))));
      }
      delivered_ = false;
      EXPECT_THAT(refusal("one"), HasSubstr("not at the tier yet"));
      delivered_ = true;
      one = Opened("one");
      EXPECT_TRUE(Eventually([&] { return Owned(*one) == parts_; }));
      EXPECT_EQ(refusal("two"), "");
      one->Close(/*clean=*/true);
      EXPECT_EQ(refusal("two"), "");
      client_->Run("DELETE FROM holdfast_outbox_agent WHERE agent = 'two#two'");
      client_->Run("UPDATE holdfast_outbox_owner SET clean = true WHERE agent = 'two#two'");
    }
  }
}

// Which agent a row comes to.
std::map<std::string, std::string> OwnersByKey(const std::vector<Row>& one,
                                               const std::vector<Row>& two) {
  std::map<std::string, std::string> owners;
  for (const Row& row : one) owners[*row.key] += "1";
  for (const Row& row : two) owners[*row.key] += "2";
  return owners;
}

TEST_P(InBothModes, TwoAgentsShareTheParts) {
  parts_ = 5;
  MakeTables();
  for (int i = 0; i < 40; ++i) client_->Run(Insert(std::to_string(i)));
  delivered_ = false;
  const auto one = Opened("one");
  EXPECT_EQ(Owned(*one), 5U);
  const auto two = Opened("two");
  EXPECT_EQ(Owned(*two), 0U);
  EXPECT_THAT(Read(*two), IsEmpty());
  // It does not give up what is not delivered.
  for (const auto end = steady_clock::now() + 2 * lease_; steady_clock::now() < end;
       std::this_thread::sleep_for(20ms)) {
    Read(*one);
    EXPECT_THAT(Read(*two), IsEmpty());
  }
  EXPECT_EQ(Owned(*one), 5U);
  delivered_ = true;
  EXPECT_TRUE(Eventually([&] {
    Read(*one);
    Read(*two);
    return Owned(*one) == 3 && Owned(*two) == 2;
  }));
  const auto owners = OwnersByKey(Read(*one), Read(*two));
  EXPECT_THAT(owners, SizeIs(40));
  for (const auto& [key, owner] : owners) EXPECT_THAT(owner, SizeIs(1)) << key;
  const auto lag = one->Measure();
  ASSERT_TRUE(lag);
  uint64_t rows = 0;
  for (const Source::Lag::Part& part : lag->parts) rows += part.rows;
  EXPECT_EQ(rows, 40U);

  // Who leaves in good order is followed at once.
  two->Close(/*clean=*/true);
  EXPECT_TRUE(Eventually([&] { return Owned(*one) == 5U; }));
  EXPECT_THAT(Read(*one), SizeIs(40));
}

// One that was passed over for a while, say.
TEST_P(InBothModes, LeavesPoisonOfAPartThatAnotherAgentHas) {
  parts_ = 2;
  MakeTables();
  for (int i = 0; i < 20; ++i) client_->Run(Insert(std::to_string(i)));
  const auto one = Opened("one");
  const auto two = Opened("two");
  ASSERT_TRUE(Eventually([&] {
    Read(*one);
    Read(*two);
    return Owned(*one) == 1 && Owned(*two) == 1;
  }));
  std::vector<Row> rows;
  ASSERT_TRUE(Eventually([&] { return !(rows = Read(*two)).empty(); }));
  const std::vector<Source::Poison> poison{{{rows[0].position, rows[0].id}, "bad"}};
  EXPECT_THAT(Positions(Read(*two, 1, {}, {poison[0].row})), ElementsAre(rows[1].position));
  const auto refusal = one->Remove({}, poison);
  ASSERT_TRUE(refusal) << refusal.error().message;
  EXPECT_THAT(*refusal, HasSubstr("could not be removed"));
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox"), "20");
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox_quarantine"), "0");
  const auto moved = two->Remove({}, poison);
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_EQ(*moved, "");
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox"), "19");
}

// An agent that is alive, and has not come to take anything yet.
std::string AliveAndIdle(const std::string& agent, uint32_t parts) {
  return fmt::format(
      "INSERT INTO holdfast_outbox_agent (source_table, agent, parts, seen_at) VALUES "
      "('\"public\".\"outbox\"', '{}', {}, 'infinity')",
      agent, parts);
}

// However late the others come: who takes them again meanwhile may do so each time.
TEST_P(InBothModes, WhatAnAgentGaveUpIsLeftToOthers) {
  parts_ = 5;
  MakeTables();
  const auto one = Opened("one");
  EXPECT_EQ(Owned(*one), 5U);
  client_->Run(AliveAndIdle("two#two", parts_));
  EXPECT_TRUE(Eventually([&] { return Owned(*one) == 3; }));
  for (const auto end = steady_clock::now() + 2 * lease_; steady_clock::now() < end;
       std::this_thread::sleep_for(5ms)) {
    ASSERT_EQ(Owned(*one), 3U);
  }
  const auto two = Opened("two");
  EXPECT_EQ(Owned(*two), 2U);
  two->Close(/*clean=*/true);
  EXPECT_TRUE(Eventually([&] { return Owned(*one) == 5; }));
}

TEST_P(InBothModes, AnAgentThatComesBackTakesAllThatItLeftUndelivered) {
  parts_ = 5;
  MakeTables();
  auto one = Opened("one");
  EXPECT_EQ(Owned(*one), 5U);
  one->Close(/*clean=*/false);
  client_->Run(AliveAndIdle("two#two", parts_));
  delivered_ = false;
  one = Opened("one");
  EXPECT_EQ(Owned(*one), 5U);
  delivered_ = true;
  EXPECT_TRUE(Eventually([&] { return Owned(*one) == 3; }));
  // In good order it comes back to its share alone.
  one->Close(/*clean=*/true);
  one = Opened("one");
  EXPECT_EQ(Owned(*one), 3U);
}

TEST_P(InBothModes, WaitsForAnAgentThatCrashedAndThenTakesOver) {
  takeover_after_ = 2s;
  MakeTables();
  client_->Run(Insert());
  auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  one.reset();
  const auto crashed = steady_clock::now();
  const auto two = Opened("two");
  EXPECT_THAT(Read(*two), IsEmpty());
  EXPECT_TRUE(Eventually([&] { return !Read(*two).empty(); }));
  EXPECT_GE(steady_clock::now() - crashed, takeover_after_);
}

TEST_P(InBothModes, AnAgentThatComesBackGoesOnAtOnce) {
  MakeTables();
  client_->Run(Insert());
  auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  one->Close(/*clean=*/false);
  const auto two = Opened("two");
  EXPECT_THAT(Read(*two), IsEmpty());
  one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  EXPECT_THAT(Read(*two), IsEmpty());
}

TEST_P(InBothModes, AgentsOfOneNameAreTwo) {
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  PostgresSource::Options same_name = OptionsFor("one");
  same_name.taker.spool = "another";
  const auto two = Opened(same_name);
  EXPECT_THAT(Read(*two), IsEmpty());
  one->Close(/*clean=*/false);
  for (const auto end = steady_clock::now() + 2 * lease_; steady_clock::now() < end;
       std::this_thread::sleep_for(20ms)) {
    ASSERT_THAT(Read(*two), IsEmpty()) << "what the other took may be late";
  }
}

TEST_P(InBothModes, ASpoolIsTheSameUnderAnotherName) {
  parts_ = 3;
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  one->Close(/*clean=*/false);
  client_->Run(AliveAndIdle("two#two", parts_));
  PostgresSource::Options moved = OptionsFor("one");
  moved.agent = "moved";
  delivered_ = false;
  const auto again = Opened(moved);
  EXPECT_TRUE(Eventually([&] { return Owned(*again) == 3U; })) << "what it left, and no share";
}

TEST_F(PostgresSourceTest, ACopiedSpoolDoesNotTakeWhatALeaseHolds) {
  ownership_ = Ownership::kLease;
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  PostgresSource::Options copy = OptionsFor("one");
  copy.agent = "copied to another host";
  const auto two = Opened(copy);
  EXPECT_THAT(Read(*two), IsEmpty());
  Remove(*one, {1});
}

// Agents went by their names alone, and may have left so when they were upgraded.
TEST_P(InBothModes, WhatAnAgentOfTheNameAloneLeftIsTakenWhenItsLeaseHasEnded) {
  MakeTables();
  client_->Run(Insert());
  const bool by_lease = ownership_ == Ownership::kLease;
  client_->Run(fmt::format(
      "INSERT INTO holdfast_outbox_owner (source_table, part, agent, clean, taken_at, expires_at) "
      "VALUES ('\"public\".\"outbox\"', 0, 'one', false, now(), {})",
      by_lease ? "now() + interval '1 hour'" : "NULL"));
  const auto one = Opened("one");
  if (by_lease) {
    EXPECT_THAT(Read(*one), IsEmpty());
    client_->Run("UPDATE holdfast_outbox_owner SET expires_at = now()");
  }
  EXPECT_TRUE(Eventually([&] { return !Read(*one).empty(); }));
  EXPECT_EQ(client_->Run("SELECT agent FROM holdfast_outbox_owner"), "one#one");
}

// Into how many parts they divided was not kept.
TEST_P(InBothModes, WhatAnAgentOfBeforeLeftOfAnotherNumberOfPartsStopsNobody) {
  MakeTables();
  client_->Run(
      "INSERT INTO holdfast_outbox_owner (source_table, part, agent, clean, taken_at) VALUES "
      "('\"public\".\"outbox\"', 7, 'gone', false, now())");
  parts_ = 4;
  const auto one = Opened("one");
  EXPECT_TRUE(Eventually([&] { return Owned(*one) == parts_; }));
}

TEST_P(InBothModes, NeverTakesOverIfToldSo) {
  takeover_after_ = 0s;
  MakeTables();
  client_->Run(Insert());
  Opened("one").reset();
  const auto two = Opened("two");
  for (const auto end = steady_clock::now() + 2 * lease_ + 1s; steady_clock::now() < end;
       std::this_thread::sleep_for(20ms)) {
    EXPECT_THAT(Read(*two), IsEmpty());
  }
}

TEST_F(PostgresSourceTest, ALeaseThatWasLostKeepsFromRemoving) {
  ownership_ = Ownership::kLease;
  takeover_after_ = 1ms;
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  // It hangs for longer than its lease.
  const auto two = Opened("two");
  EXPECT_TRUE(Eventually([&] { return !Read(*two).empty(); }));
  const auto fenced = one->Remove(At(*one, {1}), {});
  ASSERT_FALSE(fenced);
  EXPECT_EQ(fenced.error().code, Code::kUnavailable);
  EXPECT_THAT(fenced.error().message, HasSubstr("the lease ran out"));
  EXPECT_EQ(client_->Run("SELECT count(*) FROM outbox"), "1");
  Remove(*two, {1});
}

TEST_F(PostgresSourceTest, ALeaseThatRanOutAndNobodyTookStillHolds) {
  ownership_ = Ownership::kLease;
  MakeTables();
  client_->Run(Insert());
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  client_->Run("UPDATE holdfast_outbox_owner SET expires_at = now() - interval '1 hour'");
  Remove(*one, {1});
}

TEST_F(PostgresSourceTest, ALostSessionLosesItsLock) {
  MakeTables();
  client_->Run(Insert());
  takeover_after_ = 1ms;
  const auto one = Opened("one");
  EXPECT_THAT(Read(*one), SizeIs(1));
  client_->Run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
      "'holdfast-outbox'");
  const auto two = Opened("two");
  EXPECT_TRUE(Eventually([&] { return !Read(*two).empty(); }));
  const auto lost = one->Remove(std::vector<RowId>{{1, "id"}}, {});
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Code::kUnavailable);
}

}  // namespace
}  // namespace holdfast::outbox
