// Each workload alternates slices of the spool with slices of raw append + fdatasync at the same
// commit size on the same file system, so that both see the same disk in the same minute.
#include "bench/spool_workloads.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "bench/samples.h"
#include "bench/spool_load.h"

namespace holdfast::bench {
namespace {

namespace fs = std::filesystem;

constexpr double kWarmUpSeconds = 20;
constexpr uint64_t kWarmUpBytes = uint64_t{1} << 30;
constexpr int kAloneCount = 50;  // In each round.

struct Settings {
  std::string directory = fs::temp_directory_path().string();
  std::vector<std::string> workloads{"commit", "streams", "encryption", "outage", "restart"};
  double seconds = 1;
  int rounds = 5;
  std::vector<size_t> commits{size_t{16} << 10, size_t{64} << 10, size_t{256} << 10,
                              size_t{1} << 20};
  std::vector<uint32_t> streams{1, 64, 1000, 10'000, 100'000};
  double outage_gb = 20;
  std::string json;
};

// A directory that is gone afterwards.
class Scratch {
 public:
  explicit Scratch(const std::string& parent)
      : path_(parent + "/holdfast-bench-" + std::to_string(getpid())) {
    fs::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string spool() const { return path_ + "/spool"; }

 private:
  const std::string path_;
};

std::string Size(size_t bytes) {
  return bytes >= size_t{1} << 20 ? std::to_string(bytes >> 20) + " MiB"
                                  : std::to_string(bytes >> 10) + " KiB";
}

const std::vector<std::string> kBesideRaw{"MB/s",    "raw MB/s", "ratio",   "p50 ms",
                                          "p99 ms",  "max ms",   "raw p50", "raw p99",
                                          "raw max", "alone50",  "alone99"};

std::vector<std::string> Columns(const std::string& first) {
  std::vector<std::string> columns{first};
  columns.insert(columns.end(), kBesideRaw.begin(), kBesideRaw.end());
  return columns;
}

std::vector<double> BesideRaw(const Samples& spool, const Samples& raw) {
  return {spool.MegabytesPerSecond(),
          raw.MegabytesPerSecond(),
          raw.seconds > 0 ? spool.MegabytesPerSecond() / raw.MegabytesPerSecond() : 0,
          Percentile(spool.commit_ms, 50),
          Percentile(spool.commit_ms, 99),
          Percentile(spool.commit_ms, 100),
          Percentile(raw.commit_ms, 50),
          Percentile(raw.commit_ms, 99),
          Percentile(raw.commit_ms, 100),
          Percentile(spool.alone_ms, 50),
          Percentile(spool.alone_ms, 99)};
}

// Several spools and the raw disk, taking turns.
struct Competitor {
  std::string name;
  SpoolLoad::Settings settings;
};

void Compete(Table& table, const Settings& settings, const std::vector<Competitor>& competitors) {
  const Scratch scratch(settings.directory);
  std::vector<std::unique_ptr<SpoolLoad>> loads;
  std::vector<Samples> samples(competitors.size());
  std::map<size_t, Samples> raw;  // By commit size.
  for (const Competitor& competitor : competitors) {
    SpoolLoad::Settings with_directory = competitor.settings;
    with_directory.directory = scratch.path() + "/" + std::to_string(loads.size());
    loads.push_back(std::make_unique<SpoolLoad>(with_directory));
    // Until its files are used again, as they are from then on.
    loads.back()->Run(kWarmUpSeconds, kWarmUpBytes);
  }
  for (int round = 0; round < settings.rounds; ++round) {
    std::map<size_t, bool> raw_done;
    for (size_t i = 0; i < loads.size(); ++i) {
      const size_t commit_bytes = competitors[i].settings.commit_bytes;
      if (!std::exchange(raw_done[commit_bytes], true))
        raw[commit_bytes].Add(RunRaw(scratch.path(), commit_bytes, settings.seconds));
      samples[i].Add(loads[i]->Run(settings.seconds));
      const std::vector<double> alone = loads[i]->RunAlone(kAloneCount);
      samples[i].alone_ms.insert(samples[i].alone_ms.end(), alone.begin(), alone.end());
    }
  }
  for (size_t i = 0; i < loads.size(); ++i)
    table.Add(competitors[i].name,
              BesideRaw(samples[i], raw[competitors[i].settings.commit_bytes]));
}

void CommitSizes(const Settings& settings) {
  Table table("commit", Columns("commit"));
  for (const size_t bytes : settings.commits)
    Compete(table, settings, {{Size(bytes), {.commit_bytes = bytes}}});
}

void Streams(const Settings& settings) {
  Table table("streams", Columns("streams"));
  std::vector<Competitor> competitors;
  for (const uint32_t streams : settings.streams)
    competitors.push_back({std::to_string(streams), {.streams = streams}});
  Compete(table, settings, competitors);
}

void Encryption(const Settings& settings) {
  const std::vector<std::string> keys{std::string(2 * spool::kKeyBytes, '7')};
  const auto ring = spool::KeyRing::Parse(keys);
  if (!ring) Die(ring.error().message);
  Table table("encryption", Columns("commit"));
  for (const size_t bytes : settings.commits)
    Compete(table, settings,
            {{Size(bytes) + " plain", {.commit_bytes = bytes}},
             {Size(bytes) + " AES", {.commit_bytes = bytes, .keys = *ring}}});
}

// Anonymous memory of this process.
double ResidentMegabytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == "RssAnon:") {
      double kib = 0;
      status >> kib;
      return kib / 1024;
    }
  Die("/proc/self/status says nothing of RssAnon");
}

void Outage(const Settings& settings) {
  const Scratch scratch(settings.directory);
  constexpr uint32_t kStreams = 64;
  const SpoolLoad::Settings shape{.directory = scratch.spool(), .streams = kStreams};
  const auto bytes = static_cast<uint64_t>(settings.outage_gb * 1e9);
  std::vector<std::string> columns = Columns("phase");
  columns.insert(columns.end(), {"spooled GB", "RSS MB"});
  Table table("outage", columns);
  SpoolLoad load(shape);
  const auto add = [&](const std::string& name, const Samples& spool, const Samples& raw) {
    std::vector<double> row = BesideRaw(spool, raw);
    row.push_back(static_cast<double>(load.GetStatus().entry_bytes) / 1e9);
    row.push_back(ResidentMegabytes());
    table.Add(name, row);
  };
  const auto steady = [&](const std::string& name) {
    Samples spool;
    Samples raw;
    for (int round = 0; round < settings.rounds; ++round) {
      raw.Add(RunRaw(scratch.path(), shape.commit_bytes, settings.seconds));
      spool.Add(load.Run(settings.seconds));
    }
    add(name, spool, raw);
  };
  load.Run(settings.seconds);  // To warm up.
  steady("before");
  load.trimming = false;
  add("outage", load.Run(1e9, bytes), {});
  load.trimming = true;
  // Four times as fast as entries come in, or so.
  add("draining", load.Drain(bytes / 100), {});
  steady("after");
}

// So that the next look is at the disk.
void DropFromPageCache(const std::string& directory) {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const int fd = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
      Die(entry.path().string() + ": cannot drop it from the page cache");
    close(fd);
  }
}

void Restart(const Settings& settings) {
  Table table("restart",
              {"backlog GB", "open ms", "first ack ms", "cold open", "cold ack", "RSS MB"});
  for (const double gb : {0.0, settings.outage_gb / 10, settings.outage_gb}) {
    const Scratch scratch(settings.directory);
    const SpoolLoad::Settings shape{.directory = scratch.spool(), .streams = 64};
    {
      SpoolLoad load(shape);
      load.trimming = false;
      load.Run(1e9, static_cast<uint64_t>(gb * 1e9));
    }
    std::vector<double> row;
    for (const bool cold : {false, true}) {
      if (cold) DropFromPageCache(scratch.spool());
      const auto begun = Clock::now();
      SpoolLoad load(shape);
      row.push_back(Seconds(Clock::now() - begun) * 1e3);
      load.RunAlone(1);
      row.push_back(Seconds(Clock::now() - begun) * 1e3);
      if (cold) row.push_back(ResidentMegabytes());
    }
    char name[16];
    std::snprintf(name, sizeof name, "%.1f", gb);
    table.Add(name, row);
  }
}

void RunWorkloads(const Settings& settings) {
  base::SetLogLevel(base::LogLevel::kWarn);
  const std::map<std::string, void (*)(const Settings&)> workloads{{"commit", CommitSizes},
                                                                   {"streams", Streams},
                                                                   {"encryption", Encryption},
                                                                   {"outage", Outage},
                                                                   {"restart", Restart}};
  for (const std::string& name : settings.workloads) workloads.at(name)(settings);
  if (!settings.json.empty()) Table::WriteJson(settings.json);
}

}  // namespace

void AddSpoolCommand(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  CLI::App* const command =
      app.add_subcommand("spool", "The storage engine, beside raw append + fdatasync");
  command
      ->add_option(
          "--workload", settings->workloads,
          "commit: sizes of a group commit; streams: 256 KiB commits over so many streams; "
          "encryption: with and without; outage: a backlog comes and goes; restart: until "
          "it is open and until the first answer, with a backlog")
      ->delimiter(',')
      ->check(CLI::IsMember({"commit", "streams", "encryption", "outage", "restart"}));
  command->add_option("--dir", settings->directory,
                      "Where to write; a directory of its own is made in it");
  command->add_option("--seconds", settings->seconds, "Length of a slice");
  command->add_option("--rounds", settings->rounds, "Slices of each kind per line");
  command->add_option("--commit", settings->commits, "Commit sizes in bytes")->delimiter(',');
  command->add_option("--streams", settings->streams, "Numbers of streams")->delimiter(',');
  command->add_option("--outage-gb", settings->outage_gb, "The backlog, in 10^9 bytes");
  command->add_option("--json", settings->json, "Also write all rows to this file");
  command->callback([settings] { RunWorkloads(*settings); });
}

}  // namespace holdfast::bench
