// Durable throughput of the spool beside the disk it stands on.
//
//   spool_bench [--dir DIR] [--seconds S] [--rounds N] [--commit 16384,...] [--streams 1,64,...]
//               [--json]
//
// For each pair of commit size and number of streams, slices of the spool alternate with slices of
// raw append + fdatasync at the same commit size on the same file system, so that both see the same
// disk in the same minute. The spool is kept busy with entries of at most 16 KiB, spread over the
// streams; each stream is trimmed as it goes, so that segments are retired as in steady use.
//
// Columns: MB/s of entry bytes; ratio to raw; time from one commit to the next (raw: of one write
// and flush), p50 and p99; and what a single entry waits for its answer when nothing else is there.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "spool/spool.h"
#include "tests/support/thread_executor.h"

namespace holdfast {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kEntryBytesMax = size_t{16} << 10;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

struct Samples {
  uint64_t bytes = 0;
  double seconds = 0;
  std::vector<double> commit_ms;
  std::vector<double> alone_ms;

  void Add(const Samples& more) {
    bytes += more.bytes;
    seconds += more.seconds;
    commit_ms.insert(commit_ms.end(), more.commit_ms.begin(), more.commit_ms.end());
    alone_ms.insert(alone_ms.end(), more.alone_ms.begin(), more.alone_ms.end());
  }
  [[nodiscard]] double MegabytesPerSecond() const {
    return static_cast<double>(bytes) / seconds / 1e6;
  }
};

double Percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = std::ceil(percent / 100 * static_cast<double>(values.size())) - 1;
  return values[static_cast<size_t>(std::max(at, 0.0))];
}

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  base::Random random(1);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "spool_bench: %s\n", what.c_str());
  std::exit(1);
}

class NoOwner final : public spool::Owner {
 public:
  base::Result<void> Load(const spool::StateView&) override { return {}; }
  void Replay(const spool::EntryInfo&) override {}
  void Checkpoint(spool::Transaction&) override {}
  void OnDurable(std::span<const spool::StreamId>) override {}
};

// Keeps the spool busy, or gives it one entry at a time.
class SpoolLoad {
 public:
  SpoolLoad(const std::string& directory, size_t commit_bytes, uint32_t streams)
      : commit_bytes_(commit_bytes),
        streams_(streams),
        payload_(RandomBytes(std::min(commit_bytes, kEntryBytesMax))) {
    spool::Options options{.directory = directory, .commit_bytes_max = commit_bytes};
    auto opened = spool::Spool::Open(options, owner_, writer_, background_);
    if (!opened) Die(opened.error().message);
    spool_ = *std::move(opened);
  }

  Samples Run(double seconds) {
    samples_ = {};
    last_commit_ = spool::CommitNumber();
    const auto begun = Clock::now();
    const auto end =
        begun + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    // Three commits' worth: one written that waits for the next flush, one being written, and one
    // queued. With less the writer would find nothing to do, and flush for the sake of the first.
    const size_t depth = 3 * commit_bytes_ / payload_.size();
    std::unique_lock lock(mutex_);
    while (Clock::now() < end) {
      while (in_flight_ < depth) {
        ++in_flight_;
        lock.unlock();
        Submit();
        lock.lock();
      }
      answered_.wait(lock, [&] { return in_flight_ <= 2 * depth / 3; });
    }
    answered_.wait(lock, [&] { return in_flight_ == 0; });
    samples_.seconds = Seconds(Clock::now() - begun);
    return std::move(samples_);
  }

  std::vector<double> RunAlone(int count) {
    std::vector<double> waits_ms;
    for (int i = 0; i < count; ++i) {
      const auto begun = Clock::now();
      std::unique_lock lock(mutex_);
      ++in_flight_;
      lock.unlock();
      Submit();
      lock.lock();
      answered_.wait(lock, [&] { return in_flight_ == 0; });
      waits_ms.push_back(Seconds(Clock::now() - begun) * 1e3);
    }
    return waits_ms;
  }

 private:
  class Append final : public spool::Operation {
   public:
    Append(SpoolLoad& load, uint32_t stream) : load_(load), stream_(stream) {}
    [[nodiscard]] size_t Bytes() const override { return load_.payload_.size(); }
    void Apply(spool::Transaction& transaction) override {
      const spool::StreamId stream = load_.StreamOf(stream_, transaction);
      const int64_t offset = transaction.Append(
          {.stream = stream, .bytes = load_.payload_, .record_count = 16, .max_timestamp_ms = 1});
      transaction.Trim(stream, offset);
    }
    void Done(const base::Result<spool::CommitNumber>& result) override {
      if (!result) Die(result.error().message);
      load_.Answered(*result);
    }

   private:
    SpoolLoad& load_;
    uint32_t stream_;
  };

  void Submit() {
    std::unique_ptr<spool::Operation> operation = std::make_unique<Append>(*this, next_stream_);
    next_stream_ = (next_stream_ + 1) % streams_;
    if (!spool_->Submit(operation)) Die("the queue is full");
  }

  spool::StreamId StreamOf(uint32_t number, spool::Transaction& transaction) {
    while (ids_.size() <= number)
      ids_.push_back(transaction.OpenStream("topic-" + std::to_string(ids_.size())));
    return ids_[number];
  }

  void Answered(spool::CommitNumber commit) {
    const auto now = Clock::now();
    const std::lock_guard lock(mutex_);
    samples_.bytes += payload_.size();
    if (commit != last_commit_) {
      if (last_commit_.value() != 0)
        samples_.commit_ms.push_back(Seconds(now - last_commit_time_) * 1e3);
      last_commit_ = commit;
      last_commit_time_ = now;
    }
    --in_flight_;
    answered_.notify_one();
  }

  const size_t commit_bytes_;
  const uint32_t streams_;
  const std::string payload_;
  std::vector<spool::StreamId> ids_;  // Of the writer's thread.
  uint32_t next_stream_ = 0;

  std::mutex mutex_;
  std::condition_variable answered_;
  size_t in_flight_ = 0;
  Samples samples_;
  spool::CommitNumber last_commit_;
  Clock::time_point last_commit_time_;

  NoOwner owner_;
  test::ThreadExecutor writer_;
  test::ThreadExecutor background_;
  std::unique_ptr<spool::Spool> spool_;
};

// Append + fdatasync to a new file.
Samples RunRaw(const std::string& directory, size_t commit_bytes, double seconds) {
  const std::string path = directory + "/raw";
  const std::string payload = RandomBytes(commit_bytes);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) Die(path + ": cannot create");
  Samples samples;
  const auto begun = Clock::now();
  while (samples.seconds < seconds) {
    const auto commit_begun = Clock::now();
    if (pwrite(fd, payload.data(), payload.size(), static_cast<off_t>(samples.bytes)) !=
            static_cast<ssize_t>(payload.size()) ||
        fdatasync(fd) != 0)
      Die(path + ": cannot write");
    samples.bytes += payload.size();
    samples.commit_ms.push_back(Seconds(Clock::now() - commit_begun) * 1e3);
    samples.seconds = Seconds(Clock::now() - begun);
  }
  close(fd);
  unlink(path.c_str());
  return samples;
}

struct Workload {
  size_t commit_bytes;
  uint32_t streams;
};

void Print(const Workload& workload, const Samples& spool, const Samples& raw, bool json,
           bool first) {
  const double ratio = spool.MegabytesPerSecond() / raw.MegabytesPerSecond();
  const char* const format =
      json ? "%s{\"commit_bytes\": %zu, \"streams\": %u, \"spool_mb_per_s\": %.1f, "
             "\"raw_mb_per_s\": %.1f, \"ratio\": %.3f, \"spool_commit_ms\": {\"p50\": %.3f, "
             "\"p99\": %.3f}, \"raw_commit_ms\": {\"p50\": %.3f, \"p99\": %.3f}, "
             "\"alone_ms\": {\"p50\": %.3f, \"p99\": %.3f}}"
           : "%s%10zu %8u %10.1f %10.1f %6.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f\n";
  std::printf(format, json && !first ? ",\n  " : "", workload.commit_bytes, workload.streams,
              spool.MegabytesPerSecond(), raw.MegabytesPerSecond(), ratio,
              Percentile(spool.commit_ms, 50), Percentile(spool.commit_ms, 99),
              Percentile(raw.commit_ms, 50), Percentile(raw.commit_ms, 99),
              Percentile(spool.alone_ms, 50), Percentile(spool.alone_ms, 99));
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  std::string directory = std::filesystem::temp_directory_path().string();
  double seconds = 1;
  int rounds = 5;
  std::vector<size_t> commits{size_t{16} << 10, size_t{64} << 10, size_t{256} << 10,
                              size_t{1} << 20};
  std::vector<uint32_t> streams{1, 64, 10'000};
  bool json = false;
  CLI::App app("Durable throughput of the spool beside raw append + fdatasync");
  app.add_option("--dir", directory, "Where to write; a directory of its own is made in it");
  app.add_option("--seconds", seconds, "Length of a slice");
  app.add_option("--rounds", rounds, "Slices of each kind per line");
  app.add_option("--commit", commits, "Commit sizes in bytes")->delimiter(',');
  app.add_option("--streams", streams, "Numbers of streams")->delimiter(',');
  app.add_flag("--json", json, "Print JSON");
  CLI11_PARSE(app, argc, argv);

  base::SetLogLevel(base::LogLevel::kWarn);
  const std::string base = directory + "/spool-bench-" + std::to_string(getpid());
  std::filesystem::create_directories(base);
  if (json) {
    std::printf("[\n  ");
  } else {
    std::printf("%10s %8s %10s %10s %6s %8s %8s %8s %8s %8s %8s\n", "commit", "streams",
                "spool MB/s", "raw MB/s", "ratio", "p50 ms", "p99 ms", "raw p50", "raw p99",
                "alone50", "alone99");
  }
  bool first = true;
  for (const size_t commit_bytes : commits) {
    for (const uint32_t stream_count : streams) {
      const std::string spool_directory = base + "/spool";
      Samples spool;
      Samples raw;
      {
        SpoolLoad load(spool_directory, commit_bytes, stream_count);
        load.Run(seconds / 4);  // To open the streams and warm up.
        for (int round = 0; round < rounds; ++round) {
          raw.Add(RunRaw(base, commit_bytes, seconds));
          spool.Add(load.Run(seconds));
          const std::vector<double> alone = load.RunAlone(100);
          spool.alone_ms.insert(spool.alone_ms.end(), alone.begin(), alone.end());
        }
      }
      std::filesystem::remove_all(spool_directory);
      Print({commit_bytes, stream_count}, spool, raw, json, first);
      first = false;
    }
  }
  if (json) std::printf("\n]\n");
  std::filesystem::remove_all(base);
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
