#include "tests/power_cut/driver.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/endian.h"

namespace holdfast::power_cut {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSeenPrefix = "seen-";
constexpr int kOpenAttemptsMax = 4;

std::string Of(size_t operation) { return "operation " + std::to_string(operation); }

}  // namespace

base::Result<void> CountingOwner::Load(const spool::StateView& state) {
  seen.clear();
  loaded.clear();
  state.ForEach("", [&](std::string_view key, std::string_view value) {
    if (key.starts_with(kSeenPrefix)) {
      const auto stream = std::stoul(std::string(key.substr(kSeenPrefix.size())));
      seen[static_cast<uint32_t>(stream)] = std::stoull(std::string(value));
    } else {
      loaded.emplace(key, value);
    }
  });
  return {};
}

void CountingOwner::Checkpoint(spool::Transaction& transaction) {
  for (const auto& [stream, count] : seen)
    transaction.Put(std::string(kSeenPrefix) + std::to_string(stream), std::to_string(count));
}

void CountingOwner::OnDurable(std::span<const spool::StreamId> streams) {
  for (const spool::StreamId stream : streams) {
    if (ledger_.visible.size() <= stream.value()) ledger_.visible.resize(stream.value() + 1);
    ledger_.visible[stream.value()] = spool->Range(stream).end;
  }
}

class Driver::PlannedOperation final : public spool::Operation {
 public:
  PlannedOperation(Driver& driver, size_t number) : driver_(driver), number_(number) {}
  [[nodiscard]] size_t Bytes() const override { return planned().Bytes(); }
  void Apply(spool::Transaction& transaction) override {
    driver_.Applied(number_);
    Perform(driver_.workload_, number_, transaction);
    for (const Action& action : planned().actions) {
      if (action.kind != Action::Kind::kAppend) continue;
      ++driver_.owner_.seen[transaction.OpenStream(StreamName(action.number)).value()];
    }
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    driver_.Answered(number_, result.has_value());
  }

 private:
  [[nodiscard]] const Planned& planned() const { return driver_.workload_.operations[number_]; }

  Driver& driver_;
  size_t number_;
};

Driver::Driver(const Workload& workload, Ledger& ledger, SimulatedDisk& disk, std::string directory,
               bool ack_early)
    : workload_(workload),
      ledger_(ledger),
      disk_(disk),
      directory_(std::move(directory)),
      ack_early_(ack_early),
      owner_(ledger) {}

Driver::~Driver() = default;

void Driver::Expect(bool holds, Damage damage, const std::string& otherwise) const {
  if (holds) return;
  Verdict& verdict = ledger_.verdict;
  verdict.damage = damage;
  verdict.what[otherwise.copy(verdict.what, sizeof verdict.what - 1)] = '\0';
  _exit(1);
}

void Driver::Live(const Life& life, Witness* witness) {
  ++ledger_.lives;
  faults_ = life.fault.call != 0;
  disk_.BeginLife(life, witness);
  Open();
  while (ledger_.next_step < workload_.steps.size()) Do(workload_.steps[ledger_.next_step++]);
  Release();
  clock_.RunUntilIdle();
  disk_.Repair();
  clock_.Advance(std::chrono::seconds(10));
  ExpectAllAnswered();
  ExpectTakesMore();
  ExpectHolds();
  Close();
  ExpectAllAnswered();
  disk_.EndLife();
}

void Driver::Survey() {
  ++ledger_.lives;
  disk_.BeginLife({});
  Open();
  clock_.RunUntilIdle();
  ExpectSpaceAccounted();
  ExpectTakesMore();
  ExpectHolds();
  Close();
  ExpectNothingUnfinished();
  disk_.CutPower(Pattern::kDropped, 0);
  Open();
  Close();
  ledger_.surveyed = true;
}

void Driver::Open() {
  const spool::Options options{.directory = directory_,
                               .segment_bytes = uint64_t{1} << 20,
                               .commit_bytes_max = workload_.commit_bytes_max,
                               .bytes_max = workload_.bytes_max,
                               .free_bytes_min = 0};
  for (int attempt = 1; !spool_; ++attempt) {
    auto opened = spool::Spool::Open(options, owner_, writer_, background_);
    if (opened) {
      spool_ = *std::move(opened);
    } else {
      Expect(faults_ && attempt <= kOpenAttemptsMax, Damage::kUnopenable,
             "cannot be opened: " + opened.error().message);
      clock_.RunUntilIdle();
      // A disk that stays broken is replaced some day.
      if (attempt == kOpenAttemptsMax) disk_.Repair();
    }
  }
  owner_.spool = spool_.get();
  Settle();
}

void Driver::Close() {
  Release();
  spool_->Close();
  owner_.spool = nullptr;
  spool_.reset();
  clock_.RunUntilIdle();
}

void Driver::Settle() {
  const auto last = owner_.loaded.find(kLastKey);
  const size_t end =
      last == owner_.loaded.end() ? 0 : static_cast<size_t>(std::stoull(last->second)) + 1;
  Model model;
  for (size_t i = 0; i < ledger_.standings.size(); ++i) {
    Standing& standing = ledger_.standings[i];
    const bool must = standing == Standing::kAcked || standing == Standing::kStored;
    const bool may = must || standing == Standing::kApplied || standing == Standing::kUncertain;
    const bool traceless = workload_.operations[i].actions.empty();
    if (traceless && must) continue;
    if (i < end && may && !traceless) {
      Perform(workload_, i, model);
      standing = Standing::kStored;
    } else {
      Expect(!must, Damage::kLost, Of(i) + " was acknowledged and is not there");
      Expect(i + 1 != end, Damage::kTorn, Of(i) + " was refused and is there");
      if (standing != Standing::kPlanned) standing = Standing::kAbsent;
    }
  }
  const auto loaded = owner_.loaded;
  Expect(loaded == model.keys, Damage::kTorn,
         "state is not that of " + std::to_string(end) + " operations");
  ExpectHolds(model);
}

void Driver::Do(const Step& step) {
  switch (step.kind) {
    case Step::Kind::kSubmit:
      Submit(ledger_.next_operation++);
      break;
    case Step::Kind::kRun:
      clock_.RunUntilIdle();
      break;
    case Step::Kind::kRunOne:
      writer_.RunOne();
      break;
    case Step::Kind::kReopen:
      Close();
      Open();
      break;
    case Step::Kind::kHold:
      Hold(step.number);
      break;
    case Step::Kind::kRelease:
      Release();
      break;
    case Step::Kind::kSeal:
      spool_->SealSoon();
      clock_.RunUntilIdle();
      break;
    case Step::Kind::kRevise:
      Revise();
      break;
    case Step::Kind::kSort:
      Sort();
      break;
    case Step::Kind::kCheck:
      if (!faults_) ExpectHolds();
      break;
  }
}

void Driver::Hold(uint32_t stream_number) {
  Release();
  const auto stream = spool_->FindStream(StreamName(stream_number));
  if (!stream) return;
  auto lease = spool_->Read(*stream, spool_->Range(*stream).start, 1);
  if (!lease) {
    Expect(faults_, Damage::kLost, "cannot be read: " + lease.error().message);
    return;
  }
  lease_ = *std::move(lease);
  if (!lease_.empty()) leased_ = std::string(lease_.entries().front().bytes);
}

void Driver::Release() {
  if (!lease_.empty())
    Expect(lease_.entries().front().bytes == leased_, Damage::kTorn,
           "bytes under a lease have changed");
  lease_ = {};
}

namespace {

size_t OperationOf(const spool::EntryInfo& info) {
  return static_cast<size_t>(base::LoadLittle<uint64_t>(info.tag.data()));
}

class PlannedRevision final : public spool::Revision {
 public:
  PlannedRevision(const Workload& workload, const spool::Spool& spool) : workload_(workload) {
    for (const auto& [name, stream] : spool.Streams()) streams_.push_back(stream);
  }
  [[nodiscard]] std::span<const spool::StreamId> Streams() const override { return streams_; }
  [[nodiscard]] Fate Judge(const spool::EntryInfo& entry) const override {
    return FateOf(OperationOf(entry));
  }
  base::Result<Replacement> Replace(const spool::EntryView& entry) override {
    const auto action =
        static_cast<size_t>(base::LoadLittle<uint64_t>(entry.info.tag.data() + sizeof(uint64_t)));
    return Replacement{Revised(workload_.contents[OperationOf(entry.info)][action]),
                       entry.info.max_timestamp_ms};
  }
  [[nodiscard]] bool Worth(uint64_t, uint64_t) override { return true; }
  [[nodiscard]] bool Pace(size_t) override { return true; }

 private:
  const Workload& workload_;
  std::vector<spool::StreamId> streams_;
};

}  // namespace

void Driver::Revise() {
  ledger_.revised = true;
  PlannedRevision revision(workload_, *spool_);
  const auto report = spool_->Revise(revision);
  // With little space there may be none for it.
  Expect(report || faults_ || workload_.bytes_max != 0, Damage::kStuck,
         report ? std::string() : "cannot revise: " + report.error().message);
  clock_.RunUntilIdle();
}

void Driver::Sort() {
  for (bool done = false; !done;) {
    const auto report = spool_->Sort(writer_.Now(), [](size_t) { return true; });
    Expect(report || faults_ || workload_.bytes_max != 0, Damage::kStuck,
           report ? std::string() : "cannot sort: " + report.error().message);
    clock_.RunUntilIdle();
    done = !report || report->done;
  }
}

void Driver::Submit(size_t number) {
  ledger_.standings[number] = Standing::kWaiting;
  std::unique_ptr<spool::Operation> operation = std::make_unique<PlannedOperation>(*this, number);
  Expect(spool_->Submit(operation), Damage::kStuck, Of(number) + " was not taken");
}

void Driver::Applied(size_t number) {
  // The log goes on, so it is settled that what failed before is not in it.
  for (size_t i = 0; i < number; ++i) {
    if (ledger_.standings[i] == Standing::kUncertain) ledger_.standings[i] = Standing::kRefused;
  }
  ledger_.standings[number] = ack_early_ ? Standing::kAcked : Standing::kApplied;
}

void Driver::Answered(size_t number, bool ok) {
  Standing& standing = ledger_.standings[number];
  const Standing before = standing;
  ++(ok ? ledger_.acked : ledger_.refused);
  if (ok) {
    Expect(before == Standing::kApplied || ack_early_, Damage::kStuck,
           Of(number) + " was done without being applied");
    standing = Standing::kAcked;
  } else {
    Expect(before == Standing::kApplied || before == Standing::kWaiting, Damage::kStuck,
           Of(number) + " was answered twice");
    const bool settled = before == Standing::kWaiting || spool_->GetStatus().accepting;
    standing = settled ? Standing::kRefused : Standing::kUncertain;
  }
}

void Driver::ExpectAllAnswered() const {
  for (size_t i = 0; i < ledger_.standings.size(); ++i)
    Expect(ledger_.standings[i] != Standing::kWaiting && ledger_.standings[i] != Standing::kApplied,
           Damage::kStuck, Of(i) + " was never answered");
}

void Driver::ExpectTakesMore() {
  for (size_t i = 0; i < kSparePerLife; ++i) {
    const size_t number = workload_.spare_operations + ledger_.lives * kSparePerLife + i;
    Submit(number);
    clock_.RunUntilIdle();
    Expect(ledger_.standings[number] == Standing::kAcked, Damage::kStuck,
           "does not take " + Of(number) + ": " + spool_->GetStatus().refusing_because);
  }
}

void Driver::ExpectSpaceAccounted() const {
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_)) {
    // A spare one counts, too.
    const fs::path extension = entry.path().extension();
    if (extension == ".segment" || extension == ".new") bytes += entry.file_size();
  }
  const uint64_t accounted = spool_->GetStatus().disk_bytes;
  Expect(bytes == accounted, Damage::kStuck,
         "accounts for " + std::to_string(accounted) + " bytes of " + std::to_string(bytes) +
             " on the disk");
}

void Driver::ExpectNothingUnfinished() const {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_))
    Expect(entry.path().extension() != ".new", Damage::kStuck,
           entry.path().string() + " was left behind");
}

void Driver::ExpectHolds() const {
  Model model;
  for (size_t i = 0; i < ledger_.standings.size(); ++i) {
    if (ledger_.standings[i] == Standing::kAcked || ledger_.standings[i] == Standing::kStored)
      Perform(workload_, i, model);
  }
  ExpectHolds(model);
}

void Driver::ExpectHolds(const Model& model) const {
  const auto streams = spool_->Streams();
  Expect(streams.size() == model.streams.size(), Damage::kLost,
         "has " + std::to_string(streams.size()) + " streams instead of " +
             std::to_string(model.streams.size()));
  for (size_t i = 0; i < streams.size(); ++i) {
    const auto& [name, id] = streams[i];
    const Model::Stream& expected = model.streams[i];
    Expect(name == expected.name && id.value() == i, Damage::kTorn,
           "streams are not numbered as they came");
    const spool::OffsetRange range = spool_->Range(id);
    Expect(range.start == expected.start && range.end == expected.end, Damage::kLost,
           name + " is [" + std::to_string(range.start) + ", " + std::to_string(range.end) +
               ") instead of [" + std::to_string(expected.start) + ", " +
               std::to_string(expected.end) + ")");
    Expect(i >= ledger_.visible.size() || ledger_.visible[i] <= range.end, Damage::kLost,
           name + " ends before what was shown to readers");
    ExpectEntries(expected, id);
    ExpectFindsByTime(expected, id);
    const auto seen = owner_.seen.find(id.value());
    Expect((seen == owner_.seen.end() ? 0 : seen->second) == expected.entries.size(), Damage::kTorn,
           name + ": Checkpoint and Replay disagree with the log");
  }
}

void Driver::ExpectEntries(const Model::Stream& expected, spool::StreamId stream) const {
  auto next = std::find_if(
      expected.entries.begin(), expected.entries.end(),
      [&](const auto& entry) { return entry.base_offset + entry.records > expected.start; });
  int64_t from = expected.start;
  // Those of which a revision may have taken the bytes are there or not.
  const auto pass_to = [&](int64_t offset) {
    while (next != expected.entries.end() && next->base_offset + next->records <= offset &&
           ledger_.revised &&
           FateOf(static_cast<size_t>(base::LoadLittle<uint64_t>(next->tag.data()))) ==
               spool::Revision::Fate::kEmpty) {
      from = next->base_offset + next->records;
      ++next;
    }
  };
  while (next != expected.entries.end()) {
    const auto lease = spool_->Read(stream, from, size_t{64} << 10);
    Expect(lease.has_value(), Damage::kLost, lease ? std::string() : lease.error().message);
    if (lease->empty()) {
      pass_to(expected.end);
      Expect(next == expected.entries.end(), Damage::kLost,
             expected.name + " has nothing at " + std::to_string(from));
      break;
    }
    for (const spool::EntryView& entry : lease->entries()) {
      pass_to(entry.info.base_offset);
      Expect(next != expected.entries.end(), Damage::kTorn,
             expected.name + " has more entries than it should");
      ExpectEntry(*next++, entry);
      from = entry.info.end_offset();
    }
  }
  Expect(from == expected.end, Damage::kLost,
         expected.name + ": the entries do not reach to the end");
}

void Driver::ExpectEntry(const Model::Entry& expected, const spool::EntryView& entry) const {
  const auto operation = static_cast<size_t>(base::LoadLittle<uint64_t>(expected.tag.data()));
  const auto action = static_cast<size_t>(base::LoadLittle<uint64_t>(expected.tag.data() + 8));
  const spool::EntryInfo& info = entry.info;
  const bool same = info.tag == expected.tag && info.base_offset == expected.base_offset &&
                    info.record_count == expected.records &&
                    info.max_timestamp_ms == expected.timestamp_ms;
  const std::string& original = workload_.contents[operation][action];
  if (same && entry.bytes == original) return;
  if (same && ledger_.revised && FateOf(operation) == spool::Revision::Fate::kReplace &&
      entry.bytes == Revised(original))
    return;
  Expect(false, Damage::kTorn,
         "entry of " + Of(operation) + ", action " + std::to_string(action) +
             (same ? ": its bytes are damaged" : ": another one is in its place"));
}

void Driver::ExpectFindsByTime(const Model::Stream& expected, spool::StreamId stream) const {
  if (ledger_.revised) return;  // What is first is not known.
  for (const size_t operation : {size_t{0}, workload_.operations.size() / 4}) {
    const int64_t time = TimestampOf(operation) + 1;
    const auto first =
        std::find_if(expected.entries.begin(), expected.entries.end(), [&](const auto& entry) {
          return entry.timestamp_ms >= time && entry.base_offset + entry.records > expected.start;
        });
    const auto found = spool_->FindByTime(stream, time, 0);
    Expect(found.has_value(), Damage::kLost, found ? std::string() : found.error().message);
    Expect(found->has_value() == (first != expected.entries.end()) &&
               (!*found || (*found)->base_offset == first->base_offset),
           Damage::kTorn, expected.name + ": does not find the entry of a time");
  }
}

}  // namespace holdfast::power_cut
