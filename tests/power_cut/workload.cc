#include "tests/power_cut/workload.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/random.h"

namespace holdfast::power_cut {
namespace {

using Kind = Action::Kind;

constexpr uint32_t kKiB = 1024;
constexpr uint32_t kStreamsMax = 60;  // Of a workload with limited space.

// Writes scripts.
class Script {
 public:
  explicit Script(Workload& workload) : workload_(workload) {}

  void Do(std::vector<Action> actions) {
    workload_.operations.push_back({std::move(actions)});
    Add(Step::Kind::kSubmit);
  }
  void Append(uint32_t stream, uint32_t bytes, uint32_t records = 1) {
    Do({{Kind::kAppend, stream, bytes, records}});
  }
  void Trim(uint32_t stream, uint32_t left) { Do({{Kind::kTrim, stream, left}}); }
  void Add(Step::Kind kind, uint32_t number = 0) { workload_.steps.push_back({kind, number}); }
  void Run() { Add(Step::Kind::kRun); }
  void Check() { Add(Step::Kind::kCheck); }
  void Reopen() { Add(Step::Kind::kReopen); }

 private:
  Workload& workload_;
};

// One after the other, each waiting for its answer.
void Single(Script& script, Workload&) {
  for (uint32_t i = 0; i < 14; ++i) {
    script.Append(i % 2, 40 + 100 * i, 1 + i % 4);
    script.Run();
  }
  script.Check();
}

// Many at once: they share commits.
void Groups(Script& script, Workload&) {
  for (uint32_t round = 0; round < 10; ++round) {
    for (uint32_t i = 0; i <= round; ++i)
      script.Do({{Kind::kAppend, i % 3, 100 * (i + 1), 1 + i % 3}, {Kind::kPut, i, 20}});
    script.Run();
  }
}

// A commit for each of many that wait.
void Pipeline(Script& script, Workload& workload) {
  workload.commit_bytes_max = 1;
  for (uint32_t round = 0; round < 4; ++round) {
    for (uint32_t i = 0; i < 9; ++i) {
      script.Append(i % 4, 200 + 3 * kKiB * (i % 3), 2);
      if (i % 4 == 3) script.Add(Step::Kind::kRunOne);
    }
    script.Run();
  }
}

// Larger than a commit may be, nearly as large as a segment.
void Large(Script& script, Workload&) {
  for (uint32_t i = 0; i < 10; ++i) {
    script.Append(i % 2, (30 + i * 17 % 400) * kKiB, 5);
    if (i % 3 != 0) script.Append(2, 100);
    if (i % 2 == 0) script.Run();
  }
  script.Append(0, 700 * kKiB);
  script.Run();
}

// State alone, with values of all sizes, and operations that find nothing to do.
void StateOnly(Script& script, Workload&) {
  for (uint32_t i = 0; i < 26; ++i) {
    script.Do({{Kind::kPut, i % 7, i % 5 == 0 ? 20 * kKiB : 10 * i}});
    if (i % 3 == 0) script.Do({{Kind::kErase, (i + 3) % 7}, {Kind::kPut, 8, 8}});
    if (i % 4 == 0) script.Do({});
    if (i % 2 == 0) script.Run();
  }
}

// Segments filled and retired, some while a reader holds them.
void Trims(Script& script, Workload&) {
  for (uint32_t i = 0; i < 13; ++i) {
    script.Append(i % 2, 120 * kKiB, 4);
    script.Append(2, 50);
    if (i % 3 == 2) script.Trim(i % 2, 6);
    script.Run();
    if (i == 4) script.Add(Step::Kind::kHold, 0);
    if (i == 9) script.Add(Step::Kind::kRelease);
    if (i % 5 == 4) {
      script.Trim(0, 0);
      script.Trim(1, 2);
      script.Trim(2, 1);
      script.Run();
    }
  }
  script.Check();
}

// From segment to segment while commits are on their way.
void Roll(Script& script, Workload& workload) {
  workload.commit_bytes_max = 64 * kKiB;
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < 9; ++i) script.Append(i % 3, (20 + 11 * i) * kKiB, 3);
    script.Do({{Kind::kPut, round, 300}, {Kind::kAppend, 3, 10}});
    script.Run();
  }
}

// What goes on when there is no segment for entries.
void Progress(Script& script, Workload&) {
  for (uint32_t i = 0; i < 7; ++i) {
    script.Append(0, 250 * kKiB, 2);
    script.Run();
    script.Do({{Kind::kPut, i, 40}});
    script.Run();
    if (i % 2 == 1) script.Trim(0, 3);
    script.Append(1, 10);
    script.Do({{Kind::kPut, 0, i}});
    script.Run();
  }
}

void Reopen(Script& script, Workload&) {
  for (uint32_t round = 0; round < 5; ++round) {
    for (uint32_t i = 0; i < 3; ++i) script.Append(i, (1 + 60 * round) * kKiB, 2);
    if (round % 2 == 0) script.Run();  // Else closing finds them waiting.
    if (round == 3) script.Trim(0, 1);
    script.Reopen();
  }
}

void Streams(Script& script, Workload&) {
  for (uint32_t round = 0; round < 4; ++round) {
    for (uint32_t i = 0; i < 50; ++i) script.Append(round * 37 + i, 64 + 5 * kKiB * (i % 5 / 4));
    script.Run();
  }
  script.Reopen();
  for (uint32_t i = 0; i < 20; ++i) script.Append(i * 7, 200);
  script.Run();
}

// Against the limit: refused, trimmed, taken again.
void Full(Script& script, Workload& workload) {
  workload.bytes_max = uint64_t{4} << 20;
  for (uint32_t round = 0; round < 2; ++round) {
    for (uint32_t i = 0; i < 14; ++i) {
      script.Append(i % 2, 200 * kKiB);
      if (i % 2 == 0) script.Run();
    }
    script.Do({{Kind::kPut, round, 5000}});
    script.Run();
    script.Trim(0, 1);
    script.Trim(1, 1);
    script.Run();
  }
}

// Segments that get the files of retired ones, some of them whole lives long, frames of other sizes
// over the old ones each time.
void Recycle(Script& script, Workload& workload) {
  workload.commit_bytes_max = 128 * kKiB;
  for (uint32_t i = 0; i < 26; ++i) {
    script.Append(i % 2, (60 + 83 * i % 270) * kKiB, 3);
    script.Append(2, 1 + 700 * (i % 3));
    if (i % 3 == 1) script.Do({{Kind::kPut, i % 4, 9000}});
    script.Run();
    if (i % 4 == 3) {
      for (uint32_t stream = 0; stream < 3; ++stream) script.Trim(stream, stream + i % 3);
      script.Run();
    }
    if (i == 12) script.Add(Step::Kind::kHold, 0);  // What it holds is retired, but no spare yet.
    if (i == 17) script.Add(Step::Kind::kRelease);
    if (i == 21) script.Reopen();
  }
  script.Check();
}

// Old segments written anew, and joined, while others are filled and retired.
void Revisions(Script& script, Workload& workload) {
  workload.commit_bytes_max = 64 * kKiB;
  for (uint32_t round = 0; round < 6; ++round) {
    for (uint32_t i = 0; i < 7; ++i) script.Append(i % 3, 100 + (i * 13 % 5) * 9 * kKiB, 1 + i % 4);
    script.Do({{Kind::kPut, round, 500}});
    script.Run();
    if (round % 3 == 1) script.Trim(round % 3, 5);
    script.Add(Step::Kind::kSeal);
    if (round % 2 == 1) script.Add(Step::Kind::kRevise);
    if (round == 2) script.Add(Step::Kind::kHold, 1);
    if (round == 4) script.Add(Step::Kind::kRelease);
    if (round == 3) script.Reopen();
  }
  script.Check();
  script.Add(Step::Kind::kRevise);
  script.Run();
  script.Check();
}

// Old segments ordered by stream and joined, while others are filled, trimmed and retired.
void Sorting(Script& script, Workload& workload) {
  workload.commit_bytes_max = 64 * kKiB;
  for (uint32_t round = 0; round < 6; ++round) {
    for (uint32_t i = 0; i < 8; ++i) script.Append(i % 3, 100 + (i * 17 % 5) * 9 * kKiB, 1 + i % 4);
    script.Do({{Kind::kPut, round, 500}});
    script.Run();
    if (round % 3 == 2) script.Trim(round % 2, 9);
    script.Add(Step::Kind::kSeal);
    if (round != 3) script.Add(Step::Kind::kSort);
    if (round == 2) script.Add(Step::Kind::kHold, 2);
    if (round == 4) script.Add(Step::Kind::kRelease);
    if (round == 3) script.Reopen();
  }
  script.Check();
  script.Append(1, 10 * kKiB);
  script.Run();
  script.Check();
}

using Writer = void (*)(Script&, Workload&);
struct Named {
  std::string_view name;
  Writer write;
};
constexpr std::array<Named, 14> kScripts = {{{"single", Single},
                                             {"groups", Groups},
                                             {"pipeline", Pipeline},
                                             {"large", Large},
                                             {"state", StateOnly},
                                             {"trims", Trims},
                                             {"roll", Roll},
                                             {"progress", Progress},
                                             {"reopen", Reopen},
                                             {"streams", Streams},
                                             {"full", Full},
                                             {"recycle", Recycle},
                                             {"revisions", Revisions},
                                             {"sorting", Sorting}}};

Action RandomAction(base::Random& random, uint32_t streams) {
  const auto below = [&](uint64_t limit) { return static_cast<uint32_t>(random.Below(limit)); };
  const uint32_t kind = below(20);
  if (kind < 12) {
    const uint32_t bytes = kind < 8    ? below(3000)
                           : kind < 11 ? below(60 * kKiB)
                                       : below(300 * kKiB);
    return {Kind::kAppend, below(streams), 1 + bytes, 1 + below(5)};
  }
  if (kind < 15) return {Kind::kTrim, below(streams), below(20)};
  if (kind < 18) return {Kind::kPut, below(20), below(kind == 15 ? 15 * kKiB : 200)};
  return {Kind::kErase, below(20)};
}

Planned TrimAll() {
  Planned planned;
  for (uint32_t stream = 0; stream < kStreamsMax; ++stream)
    planned.actions.push_back({Kind::kTrim, stream, 0});
  return planned;
}

void RandomSteps(Script& script, Workload& workload) {
  base::Random random(workload.seed * 2 + 1);
  const uint32_t streams =
      1 + static_cast<uint32_t>(random.Below(random.Below(4) == 0 ? kStreamsMax : 6));
  if (random.Below(2) == 0) workload.commit_bytes_max = 1 + random.Below(64 * kKiB);
  if (random.Below(5) == 0) workload.bytes_max = uint64_t{4} << 20;
  while (workload.operations.size() < 60) {
    std::vector<Action> actions(random.Below(3) == 0 ? random.Below(5) : 1);
    for (Action& action : actions) action = RandomAction(random, streams);
    script.Do(std::move(actions));
    const uint64_t next = random.Below(40);
    if (next < 12) script.Run();
    if (next >= 12 && next < 20) script.Add(Step::Kind::kRunOne);
    if (next == 20) script.Reopen();
    if (next == 21) script.Add(Step::Kind::kHold, static_cast<uint32_t>(random.Below(streams)));
    if (next == 22) script.Add(Step::Kind::kRelease);
    if (next == 23) script.Add(Step::Kind::kSeal);
    if (next == 24) script.Add(Step::Kind::kRevise);
    if (next == 25) script.Add(Step::Kind::kSort);
  }
  script.Run();
}

std::string MakeContent(uint64_t seed, size_t operation, const Action& action) {
  if (action.kind != Kind::kAppend && action.kind != Kind::kPut) return {};
  std::string bytes(action.amount, '\0');
  base::Random random(seed);
  char noise[sizeof(uint64_t)];
  base::StoreLittle(noise, static_cast<uint64_t>(operation));
  for (size_t at = 0; at < bytes.size(); at += sizeof noise) {
    std::memcpy(&bytes[at], noise, std::min(sizeof noise, bytes.size() - at));
    base::StoreLittle(noise, random());
  }
  return bytes;
}

}  // namespace

size_t Planned::Bytes() const {
  size_t bytes = 0;
  for (const Action& action : actions) bytes += action.kind == Kind::kAppend ? action.amount : 0;
  return bytes;
}

std::vector<std::string> ScriptedWorkloads() {
  std::vector<std::string> names;
  for (const Named& script : kScripts) names.emplace_back(script.name);
  return names;
}

Workload MakeWorkload(const std::string& name, uint64_t seed) {
  Workload workload{.name = name, .seed = seed};
  Script script(workload);
  const auto* const found = std::find_if(kScripts.begin(), kScripts.end(),
                                         [&](const Named& each) { return each.name == name; });
  HF_CHECK(found != kScripts.end() || name == "random");
  if (found != kScripts.end()) {
    found->write(script, workload);
  } else {
    RandomSteps(script, workload);
  }
  workload.spare_operations = workload.operations.size();
  for (uint32_t i = 0; i < kSparePerLife * (kLivesMax + 1); ++i) {
    Planned spare{{{Kind::kAppend, i % 5, 500, 2}, {Kind::kPut, 50 + i, 9}}};
    // A full spool takes entries when older ones are trimmed.
    if (workload.bytes_max != 0 && i % kSparePerLife == 0) spare = TrimAll();
    workload.operations.push_back(std::move(spare));
  }
  for (size_t i = 0; i < workload.operations.size(); ++i) {
    std::vector<std::string>& contents = workload.contents.emplace_back();
    for (const Action& action : workload.operations[i].actions)
      contents.push_back(MakeContent((seed << 32) ^ (i << 8) ^ contents.size(), i, action));
  }
  return workload;
}

std::string StreamName(uint32_t number) { return "stream-" + std::to_string(number); }

void Perform(const Workload& workload, size_t operation, spool::Transaction& transaction) {
  const std::vector<Action>& actions = workload.operations[operation].actions;
  if (actions.empty()) return;
  for (size_t i = 0; i < actions.size(); ++i) {
    const Action& action = actions[i];
    const std::string key = "key-" + std::to_string(action.number);
    switch (action.kind) {
      case Kind::kAppend: {
        spool::NewEntry entry{.stream = transaction.OpenStream(StreamName(action.number)),
                              .bytes = workload.contents[operation][i],
                              .record_count = action.records,
                              .max_timestamp_ms = TimestampOf(operation)};
        if (action.number % 2 == 0) entry.summed = {{.begin = 0, .crc = base::Crc32c(entry.bytes)}};
        base::StoreLittle(entry.tag.data(), static_cast<uint64_t>(operation));
        base::StoreLittle(entry.tag.data() + sizeof(uint64_t), static_cast<uint64_t>(i));
        transaction.Append(entry);
        break;
      }
      case Kind::kTrim: {
        const spool::StreamId stream = transaction.OpenStream(StreamName(action.number));
        const int64_t offset = transaction.EndOffset(stream) - int64_t{action.amount};
        transaction.Trim(stream, offset);
        transaction.Put("cursor-" + std::to_string(action.number), std::to_string(offset));
        break;
      }
      case Kind::kPut:
        transaction.Put(key, workload.contents[operation][i]);
        break;
      case Kind::kErase:
        transaction.Erase(key);
        break;
    }
  }
  const auto count = transaction.Get(kCountKey);
  const int64_t counted = count ? std::stoll(std::string(*count)) : 0;
  transaction.Put(kCountKey, std::to_string(counted + 1));
  transaction.Put(kLastKey, std::to_string(operation));
}

}  // namespace holdfast::power_cut
