#include "agent/outbox/lmdb_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "agent/outbox/lmdb_event.h"
#include "base/crc32c.h"
#include "include/holdfast/outbox.h"
#include "tests/outbox/files_in.h"

extern "C" int PutFromC(const holdfast_outbox* outbox, MDB_txn* txn, const char* id);

namespace holdfast::outbox {
namespace {

using namespace std::chrono_literals;
using base::Code;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Pair;
using ::testing::SizeIs;

// LMDB bears one environment per process and file, so services are processes of their own: what is
// in here runs in children only.
class Service {
 public:
  explicit Service(const std::string& path, unsigned flags = 0, size_t map_bytes = 64 << 20) {
    Check(mdb_env_create(&env));
    Check(mdb_env_set_maxdbs(env, 1 + HOLDFAST_OUTBOX_DATABASES));
    Check(mdb_env_set_mapsize(env, map_bytes));
    Check(mdb_env_open(env, path.c_str(), flags, 0660));
    Commit([this](MDB_txn* txn) {
      Check(mdb_dbi_open(txn, "orders", MDB_CREATE, &orders));
      Check(holdfast_outbox_open(txn, &outbox));
    });
  }
  ~Service() { mdb_env_close(env); }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  static void Check(int code) {
    if (code == 0) return;
    std::fprintf(stderr, "service: %s\n", mdb_strerror(code));
    _exit(1);
  }
  static void Expect(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "service: not so: %s\n", what);
    _exit(1);
  }
  void Commit(const std::function<void(MDB_txn*)>& what) const {
    MDB_txn* txn = nullptr;
    Check(mdb_txn_begin(env, nullptr, 0, &txn));
    what(txn);
    Check(mdb_txn_commit(txn));
  }
  [[nodiscard]] int TryPut(const OutboxEvent& event) const {
    MDB_txn* txn = nullptr;
    int code = mdb_txn_begin(env, nullptr, 0, &txn);
    if (code != 0) return code;
    code = PutOutboxEvent(outbox, txn, event);
    if (code == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
  }
  void Put(const OutboxEvent& event) const { Check(TryPut(event)); }

  MDB_env* env = nullptr;
  MDB_dbi orders = 0;
  holdfast_outbox outbox{};
};
#define EXPECT_IN_CHILD(condition) Service::Expect(condition, #condition)

pid_t Start(const std::function<void()>& child) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  close_range(3, ~0U, 0);  // Neither the agent's locks nor its environment.
  child();
  _exit(0);
}
void RunChild(const std::function<void()>& child) {
  int status = -1;
  EXPECT_GE(waitpid(Start(child), &status, 0), 0);
  EXPECT_EQ(status, 0);
}

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

class LmdbSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-lmdb-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] LmdbSource Source() const {
    return LmdbSource({.environment = directory_, .topic = "${id}.${key}.${type}"});
  }
  static std::vector<Row> Read(LmdbSource& source, size_t limit = 1000,
                               std::vector<std::string> held = {}, std::vector<RowId> stuck = {}) {
    auto rows = source.Read(limit, held, stuck);
    EXPECT_TRUE(rows) << rows.error().message;
    return rows ? *std::move(rows) : std::vector<Row>();
  }
  static base::Error OpenError(LmdbSource source) {
    const auto opened = source.Open();
    EXPECT_FALSE(opened);
    return opened ? base::Error{} : opened.error();
  }
  static bool MayHaveMore(LmdbSource& source) {
    const auto may = source.MayHaveMore();
    EXPECT_TRUE(may) << may.error().message;
    return may && *may;
  }
  void InService(const std::function<void(const Service&)>& what) const {
    RunChild([&] { what(Service(directory_)); });
  }

  std::string directory_;
};

TEST_F(LmdbSourceTest, ReadsWhatServicesPut) {
  InService([](const Service& service) {
    service.Commit([&](MDB_txn* txn) {
      Service::Check(PutFromC(&service.outbox, txn, "first"));
      Service::Check(PutOutboxEvent(service.outbox, txn,
                                    {.route = "bills",
                                     .key = "",
                                     .payload = "",
                                     .id = "second",
                                     .timestamp_ms = -1,
                                     .headers = {{"a", "1"}, {"none", std::nullopt}, {"", ""}}}));
      Service::Check(PutOutboxEvent(service.outbox, txn, {.route = "orders"}));
      Service::Check(PutOutboxEvent(service.outbox, txn, {.route = "orders"}));
    });
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(rows, Each(Field(&Row::problem, "")));
  EXPECT_EQ(rows[0].id, "first");
  EXPECT_EQ(rows[0].route, "orders");
  EXPECT_EQ(rows[0].key, "o-1");
  EXPECT_EQ(rows[0].payload, std::string("\0\xff", 2));
  EXPECT_EQ(rows[0].timestamp_ms, 1700000000123);
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("type", "OrderPlaced"), Pair("empty", ""),
                                           Pair("none", std::nullopt)));
  EXPECT_THAT(rows[0].fields,
              ElementsAre(Pair("id", "first"), Pair("key", "o-1"), Pair("type", "OrderPlaced")));
  EXPECT_EQ(rows[1].key, "");
  EXPECT_EQ(rows[1].payload, "");
  EXPECT_EQ(rows[1].timestamp_ms, -1);
  EXPECT_THAT(rows[1].headers,
              ElementsAre(Pair("a", "1"), Pair("none", std::nullopt), Pair("", "")));
  EXPECT_EQ(rows[2].key, std::nullopt);
  EXPECT_EQ(rows[2].payload, std::nullopt);
  EXPECT_THAT(rows[2].id, MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                                       "[0-9a-f]{12}"));
  EXPECT_NE(rows[2].id, rows[3].id);
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  EXPECT_NEAR(static_cast<double>(*rows[2].timestamp_ms), static_cast<double>(now.count()), 60e3);
}

TEST_F(LmdbSourceTest, ALookMakesNothing) {
  EXPECT_THAT(Source().Look().error().message, HasSubstr("no LMDB environment yet"));
  InService([](const Service& service) { service.Put({.route = "orders", .id = "a"}); });
  const auto look = [this] {
    const auto before = test::FilesIn(directory_);
    const auto sight = Source().Look();
    ASSERT_OK(sight);
    EXPECT_FALSE(sight->taken);
    ASSERT_TRUE(sight->lag);
    EXPECT_EQ(sight->lag->parts[0].rows, 1);
    EXPECT_EQ(test::FilesIn(directory_), before);
  };
  look();
  // As after it was restored.
  std::filesystem::remove(directory_ + "/lock.mdb");
  look();
  ASSERT_THAT(test::FilesIn(directory_), SizeIs(1));
}

TEST_F(LmdbSourceTest, ALookDisturbsNoAgent) {
  InService([](const Service& service) { service.Put({.route = "orders", .id = "a"}); });
  LmdbSource agent = Source();
  ASSERT_OK(agent.Open());
  const auto before = test::FilesIn(directory_);
  RunChild([this] {
    const auto sight = Source().Look();
    EXPECT_IN_CHILD(sight && sight->taken && sight->lag && sight->lag->parts[0].rows == 1);
  });
  EXPECT_EQ(test::FilesIn(directory_), before);
  EXPECT_THAT(Read(agent), SizeIs(1));
  ASSERT_OK(agent.Remove(std::vector<RowId>{{1, "a"}}, {}));
}

TEST_F(LmdbSourceTest, AnAbortedTransactionLeavesNothing) {
  InService([](const Service& service) {
    service.Put({.route = "orders", .id = "a"});
    MDB_txn* txn = nullptr;
    Service::Check(mdb_txn_begin(service.env, nullptr, 0, &txn));
    Service::Check(PutOutboxEvent(service.outbox, txn, {.route = "orders", .id = "aborted"}));
    mdb_txn_abort(txn);
    service.Put({.route = "orders", .id = "b"});
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2));
  EXPECT_EQ(rows[1].id, "b");
}

TEST_F(LmdbSourceTest, WhatCannotBePutIsRefusedAndTheTransactionGoesOn) {
  InService([](const Service& service) {
    service.Commit([&](MDB_txn* txn) {
      const auto put = [&](const holdfast_outbox_event& event) {
        return holdfast_outbox_put(&service.outbox, txn, &event);
      };
      holdfast_outbox_event event{};
      EXPECT_IN_CHILD(put(event) == EINVAL);
      event.route = holdfast_outbox_text("");
      EXPECT_IN_CHILD(put(event) == EINVAL);
      event.route = holdfast_outbox_text("orders");
      holdfast_outbox_header header{};
      event.headers = &header;
      event.header_count = 1;
      EXPECT_IN_CHILD(put(event) == EINVAL);
      event.header_count = HOLDFAST_OUTBOX_HEADERS_MAX + 1;
      EXPECT_IN_CHILD(put(event) == EMSGSIZE);
      event.header_count = 0;
      for (auto* bytes : {&event.payload, &event.key, &event.id}) {
        *bytes = {"", HOLDFAST_OUTBOX_BYTES_MAX + 1};
        EXPECT_IN_CHILD(put(event) == EMSGSIZE);
        *bytes = {"", SIZE_MAX};
        EXPECT_IN_CHILD(put(event) == EMSGSIZE);
        *bytes = {};
      }
      event.payload = {"", HOLDFAST_OUTBOX_BYTES_MAX};  // And what is around it.
      EXPECT_IN_CHILD(put(event) == EMSGSIZE);
      event.payload = {};
      EXPECT_IN_CHILD(put(event) == 0);
    });
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source)), ElementsAre(1));
}

TEST_F(LmdbSourceTest, NoPositionIsGivenTwice) {
  InService([](const Service& service) {
    for (const char* id : {"a", "b"}) service.Put({.route = "orders", .id = id});
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  ASSERT_OK(source.Remove(Ids(Read(source)), {}));
  EXPECT_THAT(Read(source), IsEmpty());
  InService([](const Service& service) { service.Put({.route = "orders", .id = "c"}); });
  EXPECT_THAT(Positions(Read(source)), ElementsAre(3));
  // Somebody empties the databases of the library by hand, but for the events.
  InService([](const Service& service) {
    service.Commit([&](MDB_txn* txn) { Service::Check(mdb_drop(txn, service.outbox.meta, 0)); });
  });
  InService([](const Service& service) { service.Put({.route = "orders", .id = "d"}); });
  EXPECT_THAT(Positions(Read(source)), ElementsAre(3, 4));
}

TEST_F(LmdbSourceTest, PassesOverHeldRoutesAndStopsAtTheLimit) {
  InService([](const Service& service) {
    for (const char* route : {"orders", "bills", "orders", "parcels"}) {
      service.Put({.route = route});
    }
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Positions(Read(source, 10, {"orders"})), ElementsAre(2, 4));
  EXPECT_THAT(Positions(Read(source, 1, {"orders", "bills"})), ElementsAre(4));
  EXPECT_THAT(Positions(Read(source, 2)), ElementsAre(1, 2));
  const RowId stuck{1, Read(source, 1).at(0).id};
  EXPECT_THAT(Positions(Read(source, 2, {}, {stuck, {2, "another"}})), ElementsAre(2, 3));
}

TEST_F(LmdbSourceTest, AReadIsBoundedByBytes) {
  InService([](const Service& service) {
    const std::string payload(1 << 20, 'x');
    for (int i = 0; i < 24; ++i) service.Put({.route = "orders", .payload = payload});
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(LmdbSource::kReadBytes >> 20));
}

TEST_F(LmdbSourceTest, AReadIsBoundedByTheBytesOfHeadersToo) {
  InService([](const Service& service) {
    const std::string wide(1 << 20, 'x');
    for (int i = 0; i < 24; ++i) {
      service.Put({.route = "orders", .headers = {{"wide", wide}}});
      service.Put({.route = "orders", .key = wide});
    }
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  // The topic names the key, which is there twice.
  EXPECT_THAT(rows, SizeIs(11));
  EXPECT_LT(MemoryOf(rows[0]), (size_t{1} << 20) + 1000) << "it is kept once";
}

TEST_F(LmdbSourceTest, KnowsWhetherTheServiceHasCommitted) {
  InService([](const Service& service) { service.Put({.route = "orders", .id = "a"}); });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_TRUE(MayHaveMore(source));
  EXPECT_THAT(Read(source), SizeIs(1));
  EXPECT_FALSE(MayHaveMore(source));
  ASSERT_OK(source.Remove(std::vector<RowId>{{1, "a"}}, {}));
  EXPECT_FALSE(MayHaveMore(source));
  InService([](const Service& service) { service.Put({.route = "orders", .id = "a"}); });
  ASSERT_OK(source.Measure());
  EXPECT_TRUE(MayHaveMore(source));
  // Its own removal does not hide what came before it.
  ASSERT_OK(source.Remove(std::vector<RowId>{{2, "a"}}, {}));
  EXPECT_TRUE(MayHaveMore(source));
  EXPECT_THAT(Read(source), IsEmpty());
  EXPECT_FALSE(MayHaveMore(source));
  // Nor one that finds nothing what comes behind it.
  ASSERT_OK(source.Remove(std::vector<RowId>{{2, "a"}}, {}));
  EXPECT_FALSE(MayHaveMore(source));
  InService([](const Service& service) { service.Put({.route = "orders", .id = "a"}); });
  EXPECT_TRUE(MayHaveMore(source));
}

TEST_F(LmdbSourceTest, RemovesAndQuarantines) {
  InService([](const Service& service) {
    for (const char* id : {"a", "b", "c"}) {
      service.Put({.route = "orders", .id = id, .timestamp_ms = 1000});
    }
    service.Commit([&](MDB_txn* txn) {
      MDB_val key{5, const_cast<char*>("order")};
      Service::Check(mdb_put(txn, service.orders, &key, &key, 0));
    });
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Source::Poison> poison{{{2, "b"}, "it is bad"}, {{98, "gone"}, "gone"}};
  ASSERT_OK(source.Remove(std::vector<RowId>{{1, "a"}, {99, "a"}}, poison));
  EXPECT_THAT(Positions(Read(source)), ElementsAre(3));
  // Again, as after a crash.
  ASSERT_OK(source.Remove(std::vector<RowId>{{1, "a"}}, poison));
  const auto lag = source.Measure();
  ASSERT_OK(lag);
  ASSERT_THAT(lag->parts, SizeIs(1));
  EXPECT_TRUE(lag->parts[0].owned);
  EXPECT_EQ(lag->parts[0].rows, 1);
  EXPECT_EQ(lag->parts[0].oldest_ms, 1000);
  EXPECT_EQ(lag->quarantined, 1);
  const auto found = source.Find(std::vector<int64_t>{1, 2, 3});
  ASSERT_OK(found);
  EXPECT_THAT(*found, ElementsAre(RowId{3, "c"}));
  InService([](const Service& service) {
    service.Commit([&](MDB_txn* txn) {
      MDB_dbi quarantine = 0;
      Service::Check(mdb_dbi_open(txn, HOLDFAST_OUTBOX_QUARANTINE, 0, &quarantine));
      int64_t position = 2;
      MDB_val key{sizeof position, &position};
      MDB_val value;
      Service::Check(mdb_get(txn, quarantine, &key, &value));
      const std::string_view bytes(static_cast<const char*>(value.mv_data), value.mv_size);
      EXPECT_IN_CHILD(holdfast_outbox_load(bytes.data(), 4) == 9);
      EXPECT_IN_CHILD(bytes.substr(4, 9) == "it is bad");
      EXPECT_IN_CHILD(DecodeLmdbEvent(2, bytes.substr(13)).id == "b");
      // The service's own database is as it was.
      key = {5, const_cast<char*>("order")};
      Service::Check(mdb_get(txn, service.orders, &key, &value));
    });
  });
}

TEST_F(LmdbSourceTest, LeavesAnEventThatTookThePositionOfAnother) {
  const auto put = [](const Service& service) {
    for (const char* id : {"", "b", "c"}) {
      service.Put({.route = "orders", .id = id + std::to_string(getpid())});
    }
  };
  InService(put);
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<RowId> before = Ids(Read(source));
  ASSERT_THAT(before, SizeIs(3));
  InService([&](const Service& service) {
    service.Commit([&](MDB_txn* txn) {
      Service::Check(mdb_drop(txn, service.outbox.events, 0));
      Service::Check(mdb_drop(txn, service.outbox.meta, 0));
    });
    put(service);
  });
  const std::vector<RowId> after = Ids(Read(source));
  ASSERT_THAT(after, SizeIs(3));
  ASSERT_EQ(after[0].position, before[0].position);
  ASSERT_OK(source.Remove(std::vector<RowId>{before[0], after[1]},
                          std::vector<Source::Poison>{{before[2], "not this one"}}));
  EXPECT_THAT(Ids(Read(source)), ElementsAre(after[0], after[2]));
  EXPECT_EQ(source.Measure()->quarantined, 0);
}

TEST_F(LmdbSourceTest, DamagedEventsAreRowsWithAProblem) {
  InService([](const Service& service) {
    service.Put({.route = "orders", .id = "a"});
    service.Put({.route = "orders", .id = "b"});
    service.Commit([&](MDB_txn* txn) {
      int64_t position = 1;
      MDB_val key{sizeof position, &position};
      MDB_val value{7, const_cast<char*>("rubbish")};
      Service::Check(mdb_put(txn, service.outbox.events, &key, &value, 0));
      position = 3;
      value.mv_size = 0;
      Service::Check(mdb_put(txn, service.outbox.events, &key, &value, 0));
    });
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2, 3));
  EXPECT_THAT(rows[0].problem, HasSubstr("damaged"));
  EXPECT_EQ(rows[1].problem, "");
  EXPECT_THAT(rows[2].problem, HasSubstr("damaged"));
  ASSERT_OK(source.Remove({}, std::vector<Source::Poison>{{{1, rows[0].id}, rows[0].problem}}));
  EXPECT_EQ(source.Measure()->quarantined, 1);
}

std::string Encoded(const OutboxEvent& event) {
  std::string pattern = std::filesystem::temp_directory_path() / "holdfast-lmdb-XXXXXX";
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  RunChild([&] {
    const Service service(pattern);
    service.Put(event);
    service.Commit([&](MDB_txn* txn) {
      uint64_t position = 1;
      MDB_val key{sizeof position, &position};
      MDB_val value;
      Service::Check(mdb_get(txn, service.outbox.events, &key, &value));
      std::ofstream(pattern + "/value")
          .write(static_cast<char*>(value.mv_data), static_cast<std::streamsize>(value.mv_size));
    });
  });
  std::ifstream file(pattern + "/value");
  std::string value(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove_all(pattern);
  return value;
}

void Sum(std::string* value) {
  if (value->size() < 4) return;
  holdfast_outbox_store(reinterpret_cast<unsigned char*>(value->data()),
                        base::Crc32c(std::string_view(*value).substr(4)), 4);
}

TEST(LmdbEvent, EveryDamageIsFound) {
  const std::string value = Encoded({.route = "orders",
                                     .key = "k",
                                     .payload = "payload",
                                     .id = "id",
                                     .headers = {{"name", "value"}, {"none", std::nullopt}}});
  ASSERT_EQ(DecodeLmdbEvent(7, value).problem, "");
  for (size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string damaged = value;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const Row row = DecodeLmdbEvent(7, damaged);
    EXPECT_THAT(row.problem, HasSubstr("damaged")) << bit;
    EXPECT_EQ(row.position, 7);
  }
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_THAT(DecodeLmdbEvent(7, value.substr(0, size)).problem, HasSubstr("damaged")) << size;
    std::string cut = value.substr(0, size);
    Sum(&cut);
    EXPECT_THAT(DecodeLmdbEvent(7, cut).problem, HasSubstr("damaged")) << size;
  }
  std::string longer = value + "x";
  Sum(&longer);
  EXPECT_THAT(DecodeLmdbEvent(7, longer).problem, HasSubstr("sizes are wrong"));
  std::string newer = value;
  newer[4] = 2;
  Sum(&newer);
  EXPECT_THAT(DecodeLmdbEvent(7, newer).problem, HasSubstr("version 2"));
}

// A service that sums what it wrote wrongly: any bytes are survived, and none are read that are not
// there (the sanitizers would say so).
TEST(LmdbEvent, AnyBytesAreSurvived) {
  const std::string value = Encoded({.route = "orders",
                                     .key = "k",
                                     .payload = "payload",
                                     .headers = {{"name", "value"}, {"other", std::nullopt}}});
  std::mt19937 random(5);
  size_t whole = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string bytes = value;
    for (unsigned long changes = 1 + random() % 4; changes-- > 0;) {
      constexpr unsigned char kTelling[] = {0, 1, 0x7f, 0x80, 0xff};
      const auto change = static_cast<unsigned>(random());
      bytes[4 + random() % (bytes.size() - 4)] =
          static_cast<char>(change % 2 == 0 ? kTelling[change / 2 % 5] : change >> 8);
    }
    if (random() % 4 == 0) bytes.resize(random() % (2 * bytes.size()));
    Sum(&bytes);
    const std::unique_ptr<char[]> exact(new char[bytes.size()]);
    std::memcpy(exact.get(), bytes.data(), bytes.size());
    const Row row = DecodeLmdbEvent(1, {exact.get(), bytes.size()});
    if (row.problem.empty()) ++whole;
  }
  EXPECT_GT(whole, 1000);
  EXPECT_LT(whole, 190'000);
}

TEST_F(LmdbSourceTest, RefusesWhatIsNoEnvironmentWithAnOutbox) {
  base::Error error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kUnavailable);
  EXPECT_THAT(error.message, AllOf(HasSubstr(directory_), HasSubstr("no LMDB environment yet")));
  EXPECT_TRUE(std::filesystem::is_empty(directory_));  // Nothing is made.

  const std::string data_file = directory_ + "/data.mdb";
  std::ofstream(data_file).close();
  EXPECT_EQ(OpenError(Source()).code, Code::kUnavailable);
  EXPECT_EQ(std::filesystem::file_size(data_file), 0);

  std::ofstream(data_file) << std::string(20'000, 'x');
  error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("is it an LMDB environment?"));

  std::filesystem::remove(data_file);
  RunChild([&] {
    MDB_env* env = nullptr;
    Service::Check(mdb_env_create(&env));
    Service::Check(mdb_env_open(env, directory_.c_str(), 0, 0660));
    mdb_env_close(env);
  });
  error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kUnavailable);
  EXPECT_THAT(error.message, HasSubstr("no database `holdfast.outbox` yet"));

  RunChild([&] {
    MDB_env* env = nullptr;
    MDB_txn* txn = nullptr;
    MDB_dbi database = 0;
    Service::Check(mdb_env_create(&env));
    mdb_env_set_maxdbs(env, 1);
    Service::Check(mdb_env_open(env, directory_.c_str(), 0, 0660));
    Service::Check(mdb_txn_begin(env, nullptr, 0, &txn));
    Service::Check(mdb_dbi_open(txn, HOLDFAST_OUTBOX_EVENTS, MDB_CREATE, &database));
    Service::Check(mdb_txn_commit(txn));
    mdb_env_close(env);
  });
  error = OpenError(Source());
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("was not made by holdfast_outbox_open"));
}

TEST_F(LmdbSourceTest, AnEnvironmentMayBeAFile) {
  const std::string file = directory_ + "/orders.mdb";
  RunChild([&] { Service(file, MDB_NOSUBDIR).Put({.route = "orders"}); });
  LmdbSource source({.environment = file});
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(1));
  EXPECT_TRUE(std::filesystem::exists(file + "-holdfast"));
}

TEST_F(LmdbSourceTest, OneAgentAtATime) {
  InService([](const Service&) {});
  LmdbSource first = Source();
  ASSERT_OK(first.Open());
  const base::Error refused = OpenError(Source());
  EXPECT_EQ(refused.code, Code::kUnavailable);
  EXPECT_THAT(refused.message, AllOf(HasSubstr("another agent"), HasSubstr("-holdfast")));
  ASSERT_OK(first.Open());
  EXPECT_EQ(OpenError(Source()).code, Code::kUnavailable);
  first.Close(true);
  LmdbSource second = Source();
  ASSERT_OK(second.Open());
}

// It has events in its spool that are still in the environment.
TEST_F(LmdbSourceTest, AnAgentThatHadAnErrorIsStillTheOne) {
  InService([](const Service&) {});
  LmdbSource second = Source();
  {
    LmdbSource first = Source();
    ASSERT_OK(first.Open());
    first.Close(/*clean=*/false);
    const auto refused = second.Open();
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("another agent"));
    ASSERT_OK(first.Open());
    first.Close(/*clean=*/false);
  }
  ASSERT_OK(second.Open());
}

// With the lock that it kept, which is not the one that others look at any more.
TEST_F(LmdbSourceTest, AnAgentWhoseDirectoryWasReplacedHasTheLockOfTheNewOne) {
  InService([](const Service&) {});
  LmdbSource first = Source();
  ASSERT_OK(first.Open());
  const std::string away = directory_ + "-away";
  std::filesystem::rename(directory_, away);
  std::filesystem::create_directory(directory_);
  InService([](const Service&) {});
  first.Close(/*clean=*/false);
  ASSERT_OK(first.Open());
  EXPECT_EQ(OpenError(Source()).code, Code::kUnavailable);
  std::filesystem::remove_all(away);
}

TEST_F(LmdbSourceTest, NoticesThatTheFileWasReplaced) {
  InService([](const Service&) {});
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  for (const char* file : {"/data.mdb", "/lock.mdb"}) std::filesystem::remove(directory_ + file);
  InService([](const Service& service) { service.Put({.route = "orders"}); });
  const auto may = source.MayHaveMore();
  ASSERT_FALSE(may);
  EXPECT_EQ(may.error().code, Code::kUnavailable);
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(1));
}

TEST_F(LmdbSourceTest, WhatIsRemovedFromAReplacedFileIsNotRemoved) {
  InService([](const Service& service) {
    service.Put({.route = "orders"});
    service.Put({.route = "orders"});
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  const std::vector<int64_t> positions = Positions(rows);
  ASSERT_THAT(positions, SizeIs(2));
  const std::string file = directory_ + "/data.mdb";
  std::filesystem::copy_file(file, file + "-copy");
  std::filesystem::remove(directory_ + "/lock.mdb");
  std::filesystem::rename(file + "-copy", file);
  const auto removed = source.Remove(Ids(rows), {});
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Code::kUnavailable);
  EXPECT_FALSE(source.Find(positions)) << "they would be taken for gone";
  ASSERT_OK(source.Open());
  EXPECT_THAT(*source.Find(positions), SizeIs(2));
  ASSERT_OK(source.Remove(Ids(rows), {}));
  EXPECT_THAT(Read(source), IsEmpty());
}

TEST_F(LmdbSourceTest, TheLockFileIsForTheServiceToo) {
  InService([](const Service&) {});
  std::filesystem::remove(directory_ + "/lock.mdb");
  const mode_t umask_before = umask(077);
  LmdbSource source = Source();
  const auto opened = source.Open();
  umask(umask_before);
  ASSERT_OK(opened);
  for (const char* name : {"/data.mdb", "/lock.mdb", "/data.mdb-holdfast"}) {
    struct stat file {};
    ASSERT_EQ(stat((directory_ + name).c_str(), &file), 0);
    // Of the service's the umask of the test took something.
    EXPECT_EQ(file.st_mode & 0770 & ~umask_before, 0660 & ~umask_before) << name;
  }
}

TEST_F(LmdbSourceTest, TakesOverALargerMap) {
  RunChild([&] { Service(directory_, 0, 1 << 20).Put({.route = "orders"}); });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_THAT(Read(source), SizeIs(1));
  RunChild([&] {
    const Service service(directory_, 0, 32 << 20);
    const std::string payload(100'000, 'x');
    for (int i = 0; i < 100; ++i) service.Put({.route = "orders", .payload = payload});
  });
  const std::vector<Row> rows = Read(source);
  EXPECT_THAT(rows, SizeIs(101));
  ASSERT_OK(source.Remove(Ids(rows), {}));
  EXPECT_THAT(Read(source), IsEmpty());
}

// The service has filled its map; only the agent can make room.
TEST_F(LmdbSourceTest, DrainsAFullMap) {
  constexpr size_t kMap = 1 << 20;
  for (const size_t payload : {size_t{100}, size_t{30'000}}) {
    size_t put = 0;
    const std::string count_file = directory_ + "/count";
    RunChild([&] {
      const Service service(directory_, MDB_NOSYNC, kMap);
      const std::string bytes(payload, 'x');
      size_t count = 0;
      int code = 0;
      while ((code = service.TryPut({.route = "orders", .payload = bytes})) == 0) ++count;
      EXPECT_IN_CHILD(code == MDB_MAP_FULL);
      std::ofstream(count_file) << count;
    });
    std::ifstream(count_file) >> put;
    ASSERT_GT(put, 10);
    LmdbSource source = Source();
    ASSERT_OK(source.Open());
    size_t taken = 0;
    while (true) {
      const std::vector<Row> rows = Read(source);
      if (rows.empty()) break;
      taken += rows.size();
      // The quarantine needs as much room as the event had.
      const std::vector<Source::Poison> poison{{{rows.back().position, rows.back().id}, "bad"}};
      std::vector<RowId> spooled = Ids(rows);
      spooled.pop_back();
      ASSERT_OK(source.Remove(spooled, poison));
    }
    EXPECT_EQ(taken, put);
    RunChild([&] { Service(directory_, 0, kMap).Put({.route = "orders"}); });
    ASSERT_OK(source.Remove(Ids(Read(source)), {}));
  }
}

// Nothing can be moved to the quarantine, for the map is full: the caller hears it, and it works
// when the service has enlarged the map.
TEST_F(LmdbSourceTest, AFullMapIsNamed) {
  constexpr size_t kMap = 1 << 20;
  const std::string bytes(30'000, 'x');
  RunChild([&] {
    const Service service(directory_, 0, kMap);
    while (service.TryPut({.route = "orders", .payload = bytes}) == 0) {
    }
    while (service.TryPut({.route = "orders", .payload = "small"}) == 0) {
    }
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  std::vector<Source::Poison> poison;
  for (const RowId& row : Ids(Read(source))) poison.push_back({row, "bad"});
  const auto removed = source.Remove({}, poison);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Code::kUnavailable);
  EXPECT_THAT(removed.error().message,
              AllOf(HasSubstr("MDB_MAP_FULL"), HasSubstr("mdb_env_set_mapsize")));
  RunChild([&] { Service(directory_, 0, 8 * kMap).Put({.route = "orders", .payload = bytes}); });
  ASSERT_OK(source.Remove({}, poison));
  EXPECT_THAT(Read(source), SizeIs(1));
  EXPECT_EQ(source.Measure()->quarantined, poison.size());
}

TEST_F(LmdbSourceTest, ForgetsReadersThatWereKilled) {
  InService([](const Service&) {});
  // Somebody keeps the lock file in use, or LMDB would begin a new one.
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const auto reader = [&](int wrote) {
    return [&, wrote] {
      MDB_env* env = nullptr;
      MDB_txn* txn = nullptr;
      Service::Check(mdb_env_create(&env));
      Service::Check(mdb_env_open(env, directory_.c_str(), 0, 0660));
      Service::Check(mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn));
      EXPECT_IN_CHILD(write(wrote, "x", 1) == 1);
      pause();
    };
  };
  // Not through Start: it needs the pipe.
  std::vector<pid_t> readers;
  for (int i = 0; i < 2; ++i) {
    const pid_t pid = fork();
    if (pid == 0) reader(ready[1])();
    readers.push_back(pid);
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
  }
  kill(readers[0], SIGKILL);
  ASSERT_EQ(waitpid(readers[0], nullptr, 0), readers[0]);
  const auto dead = [&] {
    int status = -1;
    const pid_t pid = Start([&] {
      MDB_env* env = nullptr;
      int count = 0;
      Service::Check(mdb_env_create(&env));
      Service::Check(mdb_env_open(env, directory_.c_str(), 0, 0660));
      Service::Check(mdb_reader_check(env, &count));
      _exit(count);
    });
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
  };
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  EXPECT_EQ(dead(), 0);
  source.Close(true);
  kill(readers[1], SIGKILL);
  ASSERT_EQ(waitpid(readers[1], nullptr, 0), readers[1]);
  close(ready[0]);
  close(ready[1]);
}

// The children die anywhere in their transactions, of which each is there whole or not at all.
TEST_F(LmdbSourceTest, AKilledWriterLeavesWholeTransactions) {
  InService([](const Service&) {});
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  std::mt19937 random(11);
  std::map<std::string, int> rows_of;
  int64_t last = 0;
  const auto take = [&] {
    const std::vector<Row> rows = Read(source, 100);
    for (const Row& row : rows) {
      EXPECT_EQ(row.problem, "");
      EXPECT_EQ(row.position, last + 1);
      last = row.position;
      ++rows_of[row.id];
    }
    ASSERT_OK(source.Remove(Ids(rows), {}));
  };
  for (int child = 0; child < 30; ++child) {
    const pid_t pid = Start([&] {
      const Service service(directory_);
      for (int n = 0;; ++n) {
        const std::string id = std::to_string(child) + "." + std::to_string(n);
        const std::string payload(2000, 'x');
        service.Commit([&](MDB_txn* txn) {
          for (int i = 0; i < 3; ++i) {
            Service::Check(PutOutboxEvent(service.outbox, txn,
                                          {.route = "orders", .payload = payload, .id = id}));
          }
        });
      }
    });
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
  EXPECT_GE(rows_of.size(), 30);
  for (const auto& [id, rows] : rows_of) EXPECT_EQ(rows, 3) << id;
}

TEST_F(LmdbSourceTest, AConcurrentWriterHardlyWaits) {
  constexpr size_t kBacklog = 200'000;
  constexpr size_t kMap = 512 << 20;
  const std::string payload(300, 'x');
  RunChild([&] {
    const Service service(directory_, 0, kMap);
    service.Commit([&](MDB_txn* txn) {
      for (size_t i = 0; i < kBacklog; ++i) {
        Service::Check(
            PutOutboxEvent(service.outbox, txn, {.route = "orders", .payload = payload}));
      }
    });
  });
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::string started_file = directory_ + "/started";
  const std::string stop_file = directory_ + "/stop";
  const std::string result_file = directory_ + "/result";
  const pid_t writer = Start([&] {
    const Service service(directory_, 0, kMap);
    std::mt19937 random(3);
    std::chrono::nanoseconds longest{};
    std::chrono::nanoseconds longest_commit{};
    size_t committed = 0;
    std::ofstream(started_file).close();
    while (access(stop_file.c_str(), F_OK) != 0) {
      MDB_txn* txn = nullptr;
      const auto begun = steady_clock::now();
      Service::Check(mdb_txn_begin(service.env, nullptr, 0, &txn));
      longest = std::max<std::chrono::nanoseconds>(longest, steady_clock::now() - begun);
      Service::Check(PutOutboxEvent(service.outbox, txn, {.route = "orders", .payload = payload}));
      const auto put = steady_clock::now();
      Service::Check(mdb_txn_commit(txn));
      longest_commit =
          std::max<std::chrono::nanoseconds>(longest_commit, steady_clock::now() - put);
      ++committed;
      usleep(static_cast<useconds_t>(random() % 2000));
    }
    std::ofstream(result_file) << committed << ' ' << longest.count() << ' '
                               << longest_commit.count();
  });
  while (access(started_file.c_str(), F_OK) != 0) usleep(100);
  const auto begun = steady_clock::now();
  size_t taken = 0;
  const auto take = [&] {
    const std::vector<Row> rows = Read(source);
    taken += rows.size();
    ASSERT_OK(source.Remove(Ids(rows), {}));
  };
  while (taken < kBacklog && !HasFailure()) take();
  const double seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  const double rate = static_cast<double>(taken) / seconds;
  std::ofstream(stop_file).close();
  ASSERT_EQ(waitpid(writer, nullptr, 0), writer);
  while (!Read(source, 1).empty() && !HasFailure()) take();
  size_t committed = 0;
  int64_t longest = 0;
  int64_t longest_commit = 0;
  std::ifstream(result_file) >> committed >> longest >> longest_commit;
  EXPECT_EQ(taken, kBacklog + committed);
  const double longest_ms = static_cast<double>(longest) / 1e6;
  std::printf(
      "lmdb: %.0f rows/s read and removed beside %zu transactions, one of which waited %.1f ms, "
      "and "
      "one took %.1f ms to commit\n",
      rate, committed, longest_ms, static_cast<double>(longest_commit) / 1e6);
  EXPECT_LT(longest_ms, 3000);  // Of a machine with much to do; a few milliseconds of a quiet one.
}

// docs/examples/outbox_lmdb.c, as a user would run it.
TEST_F(LmdbSourceTest, TheExampleServiceWorks) {
  const auto place = [&](std::string order) {
    std::string program = OUTBOX_EXAMPLE;
    std::string customer = "c-7";
    std::string amount = "5";
    char* arguments[] = {program.data(),  directory_.data(), order.data(),
                         customer.data(), amount.data(),     nullptr};
    pid_t pid = -1;
    int status = -1;
    EXPECT_EQ(posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, environ), 0);
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(place("o-1"), 0);
  EXPECT_EQ(place("o-1"), 1);  // There is such an order; neither it nor an event is written.
  EXPECT_EQ(place("o-2"), 0);
  LmdbSource source = Source();
  ASSERT_OK(source.Open());
  const std::vector<Row> rows = Read(source);
  ASSERT_THAT(Positions(rows), ElementsAre(1, 2));
  EXPECT_EQ(rows[0].route, "orders");
  EXPECT_EQ(rows[0].key, "o-1");
  EXPECT_EQ(rows[0].payload, R"({"order":"o-1","customer":"c-7","amount":5})");
  EXPECT_THAT(rows[0].headers, ElementsAre(Pair("type", "OrderPlaced")));
  EXPECT_EQ(rows[1].key, "o-2");
}

}  // namespace
}  // namespace holdfast::outbox
