// Durable ingest of whatever speaks the Kafka protocol, beside the disk it stands on.
//
//   holdfast_bench ingest --bootstrap HOST:PORT [--partitions N] [--admin HOST:PORT --disk DIR]
//
// One thread keeps a number of connections busy with Produce requests of one batch each (acks=all,
// round robin over the partitions) and checks every answer. Slices of it alternate with slices of
// raw append + fdatasync to a file in DIR, at the size that the server's own commits had in the
// slice before (from the metrics of its admin port), so that both see the same disk in the same
// minute. With --half, further pairs of slices run at half of the measured rate, for the latency
// figures: the disk then gets the same requests at the same times, and one append for all that came
// while it was busy.
#include "bench/ingest.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/endian.h"
#include "base/random.h"
#include "bench/client.h"
#include "bench/samples.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "kafka/record_batch_builder.h"

namespace holdfast::bench {
namespace {

struct Settings {
  std::string bootstrap;
  std::string topic = "bench";
  int32_t partitions = 1;
  size_t record_bytes = 1024;
  size_t batch_records = 16;
  int connections = 4;
  size_t in_flight = 16;
  double seconds = 5;
  int rounds = 3;
  std::string admin;
  std::string disk;
  bool half = false;
  bool json = false;
};

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Sorted latencies in milliseconds, read by quantile.
class Latencies {
 public:
  void Add(double ms) { values_.push_back(ms); }
  double Quantile(double q) {
    if (values_.empty()) return 0;
    std::sort(values_.begin(), values_.end());
    return values_[static_cast<size_t>(q * static_cast<double>(values_.size() - 1))];
  }
  void Append(const Latencies& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
  }

 private:
  std::vector<double> values_;
};

struct Slice {
  double seconds = 0;
  double bytes = 0;  // Of record batches acknowledged, or of raw appends.
  double acks = 0;
  Latencies latencies;

  double bytes_per_second() const { return seconds > 0 ? bytes / seconds : 0; }
  double acks_per_second() const { return seconds > 0 ? acks / seconds : 0; }
  void Append(const Slice& other) {
    seconds += other.seconds;
    bytes += other.bytes;
    acks += other.acks;
    latencies.Append(other.latencies);
  }
};

class Load {
 public:
  explicit Load(const Settings& settings) : settings_(settings) {
    MakeTopic();
    MakeRequests();
    for (int i = 0; i < settings.connections; ++i) {
      connections_.push_back({.fd = Connect(settings.bootstrap)});
    }
  }

  // Keeps every connection full, or sends `rate` requests a second if that is not zero; answers
  // that are outstanding at the end are waited for and counted.
  Slice Run(double seconds, double rate) {
    Slice slice;
    const auto start = Clock::now();
    double sent = 0;
    while (true) {
      const double now = Since(start);
      const bool over = now >= seconds;
      if (!over) {
        for (Connection& connection : connections_) {
          while (connection.sent_at.size() < settings_.in_flight &&
                 (rate == 0 || sent < now * rate)) {
            Send(connection);
            ++sent;
          }
        }
      }
      if (over && std::all_of(connections_.begin(), connections_.end(),
                              [](const Connection& c) { return c.sent_at.empty(); })) {
        break;
      }
      // Until it is time to send the next: what came in bursts would wait for each other.
      const double next = rate == 0 || over ? kWaitMax : sent / rate - Since(start);
      Wait(slice, std::clamp(next, 0.0, kWaitMax));
    }
    slice.seconds = Since(start);
    slice.bytes = slice.acks * static_cast<double>(batch_bytes_);
    return slice;
  }

  size_t batch_bytes() const { return batch_bytes_; }
  size_t in_flight_max() const { return connections_.size() * settings_.in_flight; }

 private:
  struct Connection {
    int fd = -1;
    std::string in;
    std::deque<Clock::time_point> sent_at;
  };

  void MakeTopic() {
    kafka::MetadataRequest request;
    request.topics.emplace().push_back({.name = settings_.topic});
    request.allow_auto_topic_creation = true;
    const int fd = Connect(settings_.bootstrap);
    for (int attempt = 0; attempt < 100; ++attempt) {
      WriteAll(fd, Encode(request, 9).view());
      const std::string frame = ReadFrame(fd);
      const auto response = kafka::DecodeResponse<kafka::MetadataResponse>(frame, 9);
      if (!response) Die(response.error().message);
      if (response->topics.size() == 1 &&
          response->topics[0].error_code == kafka::ErrorCode::kNone) {
        const size_t found = response->topics[0].partitions.size();
        if (found != static_cast<size_t>(settings_.partitions)) {
          Die("topic " + settings_.topic + " has " + std::to_string(found) + " partitions");
        }
        close(fd);
        return;
      }
      poll(nullptr, 0, 100);
    }
    Die("topic " + settings_.topic + " could not be created");
  }

  void MakeRequests() {
    base::Random random(1);
    std::string value(settings_.record_bytes, '\0');
    kafka::RecordBatchBuilder builder({});
    const int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
    for (size_t i = 0; i < settings_.batch_records; ++i) {
      for (char& byte : value) byte = static_cast<char>(random());
      builder.Add({.timestamp = now, .value = value});
    }
    const std::string batch = std::move(builder).Build();
    batch_bytes_ = batch.size();
    for (int32_t partition = 0; partition < settings_.partitions; ++partition) {
      kafka::ProduceRequest request;
      request.acks = -1;
      request.timeout_ms = 30000;
      auto& topic = request.topic_data.emplace_back();
      topic.name = settings_.topic;
      topic.partition_data.push_back({.index = partition, .records = batch});
      requests_.push_back(Encode(request, kVersion));
    }
  }

  void Send(Connection& connection) {
    connection.sent_at.push_back(Clock::now());
    WriteAll(connection.fd, requests_[next_partition_].view());
    next_partition_ = (next_partition_ + 1) % requests_.size();
  }

  void Wait(Slice& slice, double seconds) {
    polled_.clear();
    for (const Connection& connection : connections_) polled_.push_back({connection.fd, POLLIN, 0});
    const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(seconds * 1e9)};
    if (ppoll(polled_.data(), polled_.size(), &timeout, nullptr) < 0) Die("poll failed");
    for (size_t i = 0; i < polled_.size(); ++i) {
      if (polled_[i].revents != 0) Receive(connections_[i], slice);
    }
  }

  void Receive(Connection& connection, Slice& slice) {
    char chunk[65536];
    const ssize_t n = recv(connection.fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n <= 0) Die("the server closed the connection");
    connection.in.append(chunk, static_cast<size_t>(n));
    const auto now = Clock::now();
    size_t at = 0;
    while (connection.in.size() - at >= 4) {
      const size_t size = base::LoadBig<uint32_t>(connection.in.data() + at);
      if (connection.in.size() - at - 4 < size) break;
      Check(std::string_view(connection.in).substr(at + 4, size));
      at += 4 + size;
      slice.latencies.Add(
          std::chrono::duration<double, std::milli>(now - connection.sent_at.front()).count());
      connection.sent_at.pop_front();
      ++slice.acks;
    }
    connection.in.erase(0, at);
  }

  void Check(std::string_view frame) {
    const auto response = kafka::DecodeResponse<kafka::ProduceResponse>(frame, kVersion);
    if (!response) Die(response.error().message);
    const auto& partition = response->responses.at(0).partition_responses.at(0);
    if (partition.error_code != kafka::ErrorCode::kNone) {
      Die("produce was refused with error " +
          std::to_string(static_cast<int>(partition.error_code)));
    }
  }

  static constexpr int16_t kVersion = 9;
  static constexpr double kWaitMax = 0.001;
  const Settings& settings_;
  size_t batch_bytes_ = 0;
  std::vector<base::Buffer> requests_;
  size_t next_partition_ = 0;
  std::vector<Connection> connections_;
  std::vector<pollfd> polled_;
};

// Appends, each followed by fdatasync.
class Disk {
 public:
  explicit Disk(const std::string& directory) : path_(directory + "/raw-append") {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd_ < 0) Die("cannot write to " + path_);
  }
  ~Disk() {
    close(fd_);
    unlink(path_.c_str());
  }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // Of one size, as often as the disk allows.
  Slice Run(double seconds, size_t size) {
    const std::string block(size, 'x');
    Slice slice;
    const auto start = Clock::now();
    while (Since(start) < seconds) {
      const double before = Since(start);
      Append(block);
      slice.latencies.Add((Since(start) - before) * 1e3);
      ++slice.acks;
    }
    slice.seconds = Since(start);
    slice.bytes = slice.acks * static_cast<double>(size);
    return slice;
  }

  // `rate` requests a second of so many bytes, at most `in_flight_max` of them unanswered: what has
  // come while the disk was busy is one append, as in a server that costs nothing. A moment in
  // which the disk does not answer is felt by all requests that fall into it, as there.
  Slice RunRequests(double seconds, double rate, size_t size, size_t in_flight_max) {
    const std::string block(size * in_flight_max, 'x');
    Slice slice;
    uint64_t arrived = 0;
    std::vector<double> sent;  // When each of the next append was sent.
    const auto due = [&] { return static_cast<double>(arrived) / rate; };
    const auto start = Clock::now();
    while (true) {
      if (sent.empty()) {
        if (due() >= seconds) break;
        const double wait = std::max(due() - Since(start), 0.0);
        const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(wait * 1e9)};
        ppoll(nullptr, 0, &timeout, nullptr);
        sent.push_back(due());
        ++arrived;
      }
      Append(std::string_view(block).substr(0, size * sent.size()));
      const double now = Since(start);
      for (const double at : sent) slice.latencies.Add((now - at) * 1e3);
      slice.acks += static_cast<double>(sent.size());
      const size_t room = in_flight_max - sent.size();
      sent.clear();
      while (due() <= now && due() < seconds && sent.size() < in_flight_max) {
        sent.push_back(sent.size() < room ? due() : now);
        ++arrived;
      }
    }
    slice.seconds = Since(start);
    slice.bytes = slice.acks * static_cast<double>(size);
    return slice;
  }

 private:
  void Append(std::string_view block) {
    if (pwrite(fd_, block.data(), block.size(), offset_) != static_cast<ssize_t>(block.size()) ||
        fdatasync(fd_) != 0) {
      Die("cannot append to " + path_);
    }
    offset_ += static_cast<off_t>(block.size());
  }

  std::string path_;
  int fd_ = -1;
  off_t offset_ = 0;
};

// What the server says about its commits so far.
struct Commits {
  double count = 0;
  double bytes = 0;
};

double Metric(std::string_view page, std::string_view name) {
  const size_t at = page.find("\n" + std::string(name) + " ");
  if (at == std::string_view::npos) Die("the admin port has no series " + std::string(name));
  return std::atof(page.data() + at + name.size() + 2);
}

Commits ReadCommits(const std::string& admin) {
  const int fd = Connect(admin);
  WriteAll(fd, "GET /metrics HTTP/1.0\r\n\r\n");
  std::string page;
  char chunk[65536];
  for (ssize_t n = 0; (n = recv(fd, chunk, sizeof chunk, 0)) > 0;)
    page.append(chunk, static_cast<size_t>(n));
  close(fd);
  return {Metric(page, "holdfast_spool_commit_bytes_count"),
          Metric(page, "holdfast_spool_commit_bytes_sum")};
}

struct Pair {
  Slice server;
  Slice disk;
  double commit_bytes = 0;  // On average.
  double commits = 0;

  void Append(const Pair& other) {
    server.Append(other.server);
    disk.Append(other.disk);
    const double bytes = commit_bytes * commits + other.commit_bytes * other.commits;
    commits += other.commits;
    commit_bytes = bytes / std::max(commits, 1.0);
  }
};

// One slice of each; `rate` is of requests, 0 for as many as possible.
Pair RunPair(Load& load, Disk* disk, const Settings& settings, double rate) {
  Pair pair;
  const Commits before = settings.admin.empty() ? Commits{} : ReadCommits(settings.admin);
  pair.server = load.Run(settings.seconds, rate);
  if (!settings.admin.empty()) {
    const Commits after = ReadCommits(settings.admin);
    pair.commits = after.count - before.count;
    pair.commit_bytes = (after.bytes - before.bytes) / std::max(pair.commits, 1.0);
  }
  if (disk == nullptr || pair.commit_bytes == 0) return pair;
  pair.disk = rate == 0 ? disk->Run(settings.seconds, static_cast<size_t>(pair.commit_bytes))
                        : disk->RunRequests(settings.seconds, rate, load.batch_bytes(),
                                            load.in_flight_max());
  return pair;
}

void Print(const char* what, const Settings& settings, Pair& pair) {
  const double mb = pair.server.bytes_per_second() / 1e6;
  const double raw_mb = pair.disk.bytes_per_second() / 1e6;
  const double records =
      pair.server.acks_per_second() * static_cast<double>(settings.batch_records);
  if (settings.json) {
    std::printf(
        "{\"run\":\"%s\",\"partitions\":%d,\"mb_per_s\":%.1f,\"records_per_s\":%.0f,\"p50_ms\":%."
        "2f,"
        "\"p99_ms\":%.2f,\"commit_bytes\":%.0f,\"raw_mb_per_s\":%.1f,\"raw_p50_ms\":%.2f,"
        "\"raw_p99_ms\":%.2f,\"ratio\":%.2f}\n",
        what, settings.partitions, mb, records, pair.server.latencies.Quantile(0.5),
        pair.server.latencies.Quantile(0.99), pair.commit_bytes, raw_mb,
        pair.disk.latencies.Quantile(0.5), pair.disk.latencies.Quantile(0.99),
        raw_mb > 0 ? mb / raw_mb : 0);
  } else {
    std::printf("%-10s %10d %10.1f %12.0f %8.2f %8.2f %10.0f %10.1f %8.2f %8.2f %7.2f\n", what,
                settings.partitions, mb, records, pair.server.latencies.Quantile(0.5),
                pair.server.latencies.Quantile(0.99), pair.commit_bytes / 1024, raw_mb,
                pair.disk.latencies.Quantile(0.5), pair.disk.latencies.Quantile(0.99),
                raw_mb > 0 ? mb / raw_mb : 0);
  }
  std::fflush(stdout);
}

void Run(const Settings& settings) {
  Load load(settings);
  std::optional<Disk> disk;
  if (!settings.disk.empty()) disk.emplace(settings.disk);
  if (!settings.json) {
    std::printf("%-10s %10s %10s %12s %8s %8s %10s %10s %8s %8s %7s\n", "run", "partitions", "MB/s",
                "records/s", "p50 ms", "p99 ms", "commit KiB", "raw MB/s", "p50 ms", "p99 ms",
                "ratio");
  }
  Disk* raw = disk ? &*disk : nullptr;
  Pair full;
  for (int round = 0; round < settings.rounds; ++round) {
    full.Append(RunPair(load, raw, settings, 0));
  }
  Print("full load", settings, full);
  if (!settings.half) return;
  // The file system still has to do what the full load left behind.
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const double rate = full.server.acks_per_second() / 2;
  Pair half;
  for (int round = 0; round < settings.rounds; ++round)
    half.Append(RunPair(load, raw, settings, rate));
  Print("half load", settings, half);
}

}  // namespace

void AddIngestCommand(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  CLI::App* const command =
      app.add_subcommand("ingest", "A running agent or broker, beside raw append + fdatasync");
  command->add_option("--bootstrap", settings->bootstrap, "HOST:PORT of the server")->required();
  command->add_option("--topic", settings->topic, "Made if it is missing and the server allows it");
  command->add_option("--partitions", settings->partitions, "That the topic has");
  command->add_option("--record-bytes", settings->record_bytes, "Size of a record's value");
  command->add_option("--batch-records", settings->batch_records, "Records in a batch");
  command->add_option("--connections", settings->connections, "Connections");
  command->add_option("--in-flight", settings->in_flight, "Requests in flight for each connection");
  command->add_option("--seconds", settings->seconds, "Length of a slice");
  command->add_option("--rounds", settings->rounds, "Slices of each kind");
  command->add_option("--admin", settings->admin,
                      "HOST:PORT of the server's admin port, for its commit sizes");
  command->add_option("--disk", settings->disk, "Directory for the raw appends; needs --admin");
  command->add_flag("--half", settings->half, "Also at half of the measured rate");
  command->add_flag("--json", settings->json, "One JSON object a line");
  command->callback([settings] { Run(*settings); });
}

}  // namespace holdfast::bench
