#include "tests/power_cut/laboratory.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
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
constexpr unsigned kLifeSecondsMax = 60;
constexpr size_t kLogBytesShown = 3000;

std::string MakeDirectory() {
  std::string name =
      (access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path()) /
      "holdfast-power-cut-XXXXXX";
  HF_CHECK(mkdtemp(name.data()) != nullptr);
  return name;
}

}  // namespace

Laboratory::Laboratory() : directory_(MakeDirectory()), arena_(SharedArena::Map(kArenaBytes)) {
  // LMDB's page buffers: from memory that is there, instead of new pages each time. But its list of
  // dirty pages is 2 MiB of which hardly any is touched.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

Laboratory::~Laboratory() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

Outcome Laboratory::Run(const Case& test_case, Deceit deceit) {
  HF_CHECK(test_case.lives.size() < kLivesMax);
  const std::string root = directory_ + "/disk";
  const std::string limbo = directory_ + "/limbo";
  for (const std::string& path : {root, limbo}) {
    fs::remove_all(path);
    fs::create_directory(path);
  }
  fs::remove(directory_ + "/log");
  arena_.Reset();
  if (workload_.name != test_case.workload || workload_.seed != test_case.seed)
    workload_ = MakeWorkload(test_case.workload, test_case.seed);
  Ledger& ledger = *arena_.New<Ledger>(workload_.operations.size(), &arena_);
  SimulatedDisk& disk = *arena_.New<SimulatedDisk>(arena_, root, limbo, deceit.lie);

  Outcome outcome;
  for (const Life& life : test_case.lives) {
    if (!outcome.failure) outcome.failure = RunLife(&life, ledger, disk, deceit.ack_early);
  }
  outcome.calls = disk.calls();
  outcome.failed_calls = disk.failed_calls();
  outcome.acked = ledger.acked;
  outcome.refused = ledger.refused;
  if (!outcome.failure) {
    outcome.failure = RunLife(nullptr, ledger, disk, deceit.ack_early);
    if (!outcome.failure && !ledger.surveyed) outcome.failure = "the survey did not finish";
    // No power cut damages a frame that can be seen at all: LMDB shows it only when all of it is
    // there.
    if (!outcome.failure && Log().find(" is lost, ") != std::string::npos)
      outcome.failure = "a frame was taken for damaged\n" + Log();
  }
  return outcome;
}

std::optional<std::string> Laboratory::RunLife(const Life* life, Ledger& ledger,
                                               SimulatedDisk& disk, bool ack_early) {
  const pid_t child = fork();
  HF_CHECK(child >= 0);
  if (child == 0) {
    const int log =
        __real_open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(log, STDERR_FILENO);
    alarm(kLifeSecondsMax);
    {
      Driver driver(workload_, ledger, disk, directory_ + "/disk/spool", ack_early);
      life != nullptr ? driver.Live(*life) : driver.Survey();
    }
    _exit(0);
  }
  int status = 0;
  HF_CHECK(waitpid(child, &status, 0) == child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  std::string what = life != nullptr ? "while it lived: " : "at the survey: ";
  if (WIFSIGNALED(status)) {
    what += std::string("died of ") + strsignal(WTERMSIG(status));
  } else {
    what += ledger.failure[0] != '\0' ? ledger.failure
                                      : "exited with " + std::to_string(WEXITSTATUS(status));
  }
  const std::string log = Log();
  const size_t cut = log.size() - std::min(log.size(), kLogBytesShown);
  return what + "\n" + (cut != 0 ? "..." : "") + log.substr(cut);
}

std::string Laboratory::Log() const {
  std::ostringstream text;
  text << std::ifstream(directory_ + "/log").rdbuf();
  return text.str();
}

}  // namespace holdfast::power_cut
