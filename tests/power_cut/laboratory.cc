#include "tests/power_cut/laboratory.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "tests/power_cut/driver.h"
#include "tests/power_cut/real_calls.h"

namespace holdfast::power_cut {
namespace {

namespace fs = std::filesystem;

constexpr size_t kArenaBytes = size_t{1} << 30;  // Of addresses; memory only as far as it is used.
constexpr unsigned kProcessSecondsMax = 60;
constexpr size_t kLogBytesShown = 3000;
constexpr size_t kFailuresKept = 5;
constexpr uint64_t kMeasuredEvery = 16;  // Surveys. To read all of a disk costs as much as one.

// Directories: of the disk that lives are lived on, and of the copy that is surveyed.
constexpr std::array kDisk = {"disk", "limbo"};
constexpr std::array kCopy = {"copy", "copy-limbo"};

std::string MakeDirectory() {
  std::string name =
      (access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path()) /
      "holdfast-power-cut-XXXXXX";
  HF_CHECK(mkdtemp(name.data()) != nullptr);
  return name;
}

template <class T>
T& MakeShared() {
  void* const memory =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  HF_CHECK(memory != MAP_FAILED);
  return *new (memory) T();
}

void MakeEmpty(const std::string& directory) {
  fs::remove_all(directory);
  fs::create_directory(directory);
}

std::string TextOf(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

// What processes leave for the one that started them.
struct Laboratory::Report {
  struct FailedCut {
    Cut cut;
    Verdict verdict;
  };
  Verdict verdict;
  uint64_t cuts = 0;
  uint64_t images = 0;
  uint64_t surveyed = 0;
  uint64_t failed = 0;
  uint64_t last_image = 0;
  FailedCut first_failed[kFailuresKept];
};

// In the process of the life that is cut.
class Laboratory::Sweep final : public Witness {
 public:
  Sweep(Laboratory& laboratory, const CutsAt& cuts_at, Ledger& ledger, SimulatedDisk& disk,
        Deceit deceit)
      : laboratory_(laboratory),
        report_(laboratory.report_),
        cuts_at_(cuts_at),
        ledger_(ledger),
        disk_(disk),
        deceit_(deceit),
        workload_(base::Random(std::hash<std::string>()(laboratory.workload_.name) ^
                               laboratory.workload_.seed)()) {}

  void BeforeCall(uint32_t call) override {
    if (!cuts_at_) return;
    for (const Cut& cut : cuts_at_(call)) {
      ++report_.cuts;
      const uint64_t image = workload_ + disk_.FingerprintAfterCut(cut);
      report_.last_image = image - workload_;
      if (laboratory_.seen_.Add(image)) ++report_.images;
      if (laboratory_.seen_.Add(base::Random(image ^ ledger_.Fingerprint())())) Survey(cut);
    }
  }

 private:
  void Survey(const Cut& cut) {
    ++report_.surveyed;
    const std::string log = laboratory_.Path("survey-log");
    fs::remove(log);
    const pid_t process = fork();
    HF_CHECK(process >= 0);
    if (process == 0) SurveyCopy(cut, log);
    const auto failure = laboratory_.Judge(process, "at the survey", log);
    // At once, since it shares files with the disk.
    for (const char* const name : kCopy) MakeEmpty(laboratory_.Path(name));
    alarm(kProcessSecondsMax);
    if (!failure) return;
    if (report_.failed < kFailuresKept) {
      auto& [failed_cut, verdict] = report_.first_failed[report_.failed];
      failed_cut = cut;
      verdict.damage = failure->damage;
      verdict.what[failure->what.copy(verdict.what, sizeof verdict.what - 1)] = '\0';
    }
    ++report_.failed;
  }

  [[noreturn]] void SurveyCopy(const Cut& cut, const std::string& log) {
    laboratory_.BeginProcess(log);
    SharedArena& arena = laboratory_.arena_;
    arena.BecomePrivate();
    const std::string copy = laboratory_.Path("copy");
    disk_.CopyAfterCut(cut, copy);
    SimulatedDisk disk(arena, copy, laboratory_.Path("copy-limbo"), deceit_.lie);
    if (report_.surveyed % kMeasuredEvery == 0) {
      // That of the copy, read from the files, must be that of the cut, which was reckoned.
      HF_CHECK(disk.FingerprintAfterCut({.pattern = Pattern::kKilled}) == report_.last_image);
    }
    laboratory_.Survey(ledger_, disk, copy, deceit_.ack_early);
  }

  Laboratory& laboratory_;
  Report& report_;
  const CutsAt& cuts_at_;
  Ledger& ledger_;
  SimulatedDisk& disk_;
  const Deceit deceit_;
  const uint64_t workload_;
};

Laboratory::Laboratory()
    : directory_(MakeDirectory()),
      arena_(SharedArena::Map(kArenaBytes)),
      report_(MakeShared<Report>()) {
  // LMDB's page buffers: from memory that is there, instead of new pages each time. But its list of
  // dirty pages is 2 MiB of which hardly any is touched.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

Laboratory::~Laboratory() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  munmap(&report_, sizeof report_);
  munmap(&arena_, kArenaBytes);
}

Outcome Laboratory::Run(const Case& test_case, const CutsAt& cuts_at, Deceit deceit) {
  HF_CHECK(test_case.lives.size() < kLivesMax);
  const std::string root = Path("disk");
  const std::string log = Path("log");
  for (const char* const name : kDisk) MakeEmpty(Path(name));
  for (const char* const name : kCopy) MakeEmpty(Path(name));
  fs::remove(log);
  arena_.Reset();
  report_ = Report();
  if (workload_.name != test_case.workload || workload_.seed != test_case.seed)
    workload_ = MakeWorkload(test_case.workload, test_case.seed);
  Ledger& ledger = *arena_.New<Ledger>(workload_.operations.size(), report_.verdict, &arena_);
  SimulatedDisk& disk = *arena_.New<SimulatedDisk>(arena_, root, Path("limbo"), deceit.lie);

  std::optional<Failure> failure;
  for (size_t i = 0; i < test_case.lives.size() && !failure; ++i) {
    const pid_t process = fork();
    HF_CHECK(process >= 0);
    if (process == 0) {
      BeginProcess(log);
      Sweep sweep(*this, cuts_at, ledger, disk, deceit);
      {
        Driver driver(workload_, ledger, disk, root + "/spool", deceit.ack_early);
        driver.Live(test_case.lives[i], i + 1 == test_case.lives.size() ? &sweep : nullptr);
      }
      _exit(0);
    }
    failure = Judge(process, "while it lived", log);
  }
  Outcome outcome{.failed = report_.failed,
                  .calls = disk.calls(),
                  .failed_calls = disk.failed_calls(),
                  .failed_meta_writes = disk.failed_meta_writes(),
                  .cuts = report_.cuts,
                  .images = report_.images,
                  .surveyed = report_.surveyed,
                  .acked = ledger.acked,
                  .refused = ledger.refused,
                  .last_cut_image = report_.last_image};
  if (!failure) {
    outcome.image = disk.FingerprintAfterCut({.pattern = Pattern::kKilled});
    const pid_t process = fork();
    HF_CHECK(process >= 0);
    if (process == 0) {
      BeginProcess(log);
      Survey(ledger, disk, root, deceit.ack_early);
    }
    failure = Judge(process, "at the survey", log);
  }
  if (failure) {
    ++outcome.failed;
    failure->test_case = test_case;
    outcome.failures.push_back(*std::move(failure));
  }
  for (size_t i = 0; i < std::min(report_.failed, kFailuresKept); ++i) {
    const auto& [cut, verdict] = report_.first_failed[i];
    Failure& failed = outcome.failures.emplace_back();
    failed.test_case = test_case;
    failed.test_case.lives.back().cut = cut;
    failed.damage = verdict.damage;
    failed.what = verdict.what;
  }
  return outcome;
}

void Laboratory::BeginProcess(const std::string& log) const {
  const int file = __real_open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  dup2(file, STDERR_FILENO);
  alarm(kProcessSecondsMax);
}

void Laboratory::Survey(Ledger& ledger, SimulatedDisk& disk, const std::string& root,
                        bool ack_early) const {
  {
    Driver driver(workload_, ledger, disk, root + "/spool", ack_early);
    driver.Survey();
  }
  _exit(ledger.surveyed ? 0 : 2);
}

std::optional<Failure> Laboratory::Judge(pid_t process, const char* when,
                                         const std::string& log) const {
  int status = 0;
  HF_CHECK(waitpid(process, &status, 0) == process);
  const std::string text = TextOf(log);
  Verdict& verdict = report_.verdict;
  std::string what;
  if (WIFSIGNALED(status)) {
    verdict.damage = WTERMSIG(status) == SIGALRM ? Damage::kStuck : Damage::kUnopenable;
    what = std::string("died of ") + strsignal(WTERMSIG(status));
  } else if (WEXITSTATUS(status) != 0) {
    what = verdict.damage != Damage::kNone ? verdict.what
                                           : "exited with " + std::to_string(WEXITSTATUS(status));
    if (verdict.damage == Damage::kNone) verdict.damage = Damage::kUnopenable;
  } else if (text.find(" is lost, ") != std::string::npos) {
    // No power cut damages a frame that can be seen at all: LMDB shows it only when all of it is
    // there.
    verdict.damage = Damage::kTorn;
    what = "a frame was taken for damaged";
  } else {
    return std::nullopt;
  }
  const size_t cut = text.size() - std::min(text.size(), kLogBytesShown);
  return Failure{
      .damage = std::exchange(verdict.damage, Damage::kNone),
      .what = std::string(when) + ": " + what + "\n" + (cut != 0 ? "..." : "") + text.substr(cut)};
}

}  // namespace holdfast::power_cut
