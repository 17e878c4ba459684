// Partitions against durable throughput, with a client that costs next to nothing.
//
//   holdfast_bench curve --bootstrap HOST:PORT [--partitions 1,64,...] [--batch-records N]
//
// A fixed number of records is in flight, as producers with a limited buffer have it, spread round
// robin over the partitions: so batches shrink as partitions are added. With --batch-records each
// batch has so many records whatever the number of partitions. Requests are made beforehand, and a
// connection sends the next one when the oldest is answered. Every answer is checked: no error, and
// the offsets of a partition rise on each connection.
#include "bench/curve.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <deque>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "bench/client.h"
#include "bench/samples.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "kafka/record_batch_builder.h"

namespace holdfast::bench {
namespace {

struct Settings {
  std::string bootstrap;
  std::vector<int32_t> partitions{1, 64, 256, 1000, 10000};
  size_t record_bytes = 100;
  size_t records_in_flight = 40000;
  size_t batch_records = 0;
  size_t connections = 4;
  size_t requests_in_flight = 5;  // Of each connection.
  double warm_up = 1;
  double seconds = 5;
  int pid = 0;
  std::string json;
};

double CpuSeconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double OwnCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return CpuSeconds(usage.ru_utime) + CpuSeconds(usage.ru_stime);
}

// User and system time of a process, from the 14th and 15th field behind its name.
double ProcessCpuSeconds(int pid) {
  if (pid == 0) return 0;
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string line((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) Die("there is no process " + std::to_string(pid));
  std::istringstream fields(line.substr(name_end + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double ResidentMegabytes(int pid, std::string_view kind) {
  if (pid == 0) return 0;
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kind)) return std::stod(line.substr(kind.size() + 1)) / 1024;
  }
  return 0;
}

class Producers {
 public:
  Producers(const Settings& settings, int32_t partitions)
      : settings_(settings),
        partitions_(partitions),
        topic_("curve-" + std::to_string(partitions) + "-" + std::to_string(getpid())),
        admin_(Connect(settings.bootstrap)) {
    kafka::CreateTopicsRequest request;
    request.topics.push_back({.name = topic_,
                              .num_partitions = partitions,
                              .replication_factor = 1,
                              .assignments = {},
                              .configs = {},
                              .unknown_tags = {}});
    std::string frame;
    const auto begun = Clock::now();
    const auto response = Ask(admin_, request, 5, &frame);
    create_seconds_ = Seconds(Clock::now() - begun);
    if (response.topics.at(0).error_code != kafka::ErrorCode::kNone)
      Die("cannot create " + topic_ + ": " +
          std::string(kafka::ErrorName(response.topics.at(0).error_code)));
    MakeRequests();
    for (size_t i = 0; i < settings.connections; ++i) {
      Connection& connection = connections_.emplace_back();
      connection.fd = Connect(settings.bootstrap);
      connection.last_offsets.assign(static_cast<size_t>(partitions), -1);
      connection.next = i * requests_.size() / settings.connections;
    }
  }
  ~Producers() {
    for (const Connection& connection : connections_) close(connection.fd);
    kafka::DeleteTopicsRequest request;
    request.topic_names.push_back(topic_);
    request.timeout_ms = 60000;
    std::string frame;
    Ask(admin_, request, 5, &frame);
    close(admin_);
  }
  Producers(const Producers&) = delete;
  Producers& operator=(const Producers&) = delete;

  // As many requests as are answered in that time; the latencies are those of whole requests.
  Samples Run(double seconds) {
    Samples samples;
    records_acknowledged_ = 0;
    const auto begun = Clock::now();
    while (Seconds(Clock::now() - begun) < seconds) {
      for (Connection& connection : connections_) Fill(connection);
      Wait(samples);
    }
    samples.seconds = Seconds(Clock::now() - begun);
    return samples;
  }
  // What is still out.
  void Settle() {
    Samples ignored;
    while (std::ranges::any_of(connections_, [](const auto& c) { return !c.sent.empty(); }))
      Wait(ignored);
  }

  [[nodiscard]] double create_seconds() const { return create_seconds_; }
  [[nodiscard]] uint64_t records_acknowledged() const { return records_acknowledged_; }
  [[nodiscard]] size_t batches_per_request() const { return batches_per_request_; }

 private:
  struct Request {
    base::Buffer frame;
    size_t records = 0;
  };
  struct Connection {
    int fd = -1;
    size_t next = 0;       // Request to be sent.
    std::string_view out;  // Of the one that is being sent.
    std::string in;
    std::deque<std::pair<Clock::time_point, size_t>> sent;  // When, and how many records.
    std::vector<int64_t> last_offsets;
  };

  const std::string& BatchOf(size_t records) {
    std::string& batch = batches_[records];
    if (!batch.empty()) return batch;
    const int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
    kafka::RecordBatchBuilder builder({});
    for (size_t i = 0; i < records; ++i)
      builder.Add({.timestamp = now, .value = RandomBytes(settings_.record_bytes)});
    return batch = std::move(builder).Build();
  }

  // The requests that come in turn until the round over the partitions is whole.
  void MakeRequests() {
    const auto partitions = static_cast<size_t>(partitions_);
    const size_t records = std::max<size_t>(
        1, settings_.records_in_flight / (settings_.connections * settings_.requests_in_flight));
    const size_t of_batch = settings_.batch_records;
    // Turns: a record each, or a batch each where batches have one size.
    const size_t turns =
        of_batch == 0 ? records : std::clamp<size_t>(records / of_batch, 1, partitions);
    const size_t requests = partitions / std::gcd(partitions, turns);
    size_t partition = 0;
    for (size_t r = 0; r < requests; ++r) {
      std::map<size_t, size_t> counts;
      for (size_t turn = 0; turn < turns; ++turn) {
        counts[partition] += of_batch == 0 ? 1 : of_batch;
        partition = (partition + 1) % partitions;
      }
      kafka::ProduceRequest request;
      request.acks = -1;
      request.timeout_ms = 30000;
      auto& topic = request.topic_data.emplace_back();
      topic.name = topic_;
      size_t all = 0;
      for (const auto& [index, count] : counts) {
        // A partition has one batch in a request.
        topic.partition_data.push_back(
            {.index = static_cast<int32_t>(index), .records = BatchOf(count)});
        all += count;
      }
      batches_per_request_ = counts.size();
      requests_.push_back({Encode(request, kVersion), all});
    }
    // With few partitions, batches of one size make smaller requests, and more of them.
    const size_t records_of_connection = settings_.records_in_flight / settings_.connections;
    requests_in_flight_ = std::clamp(records_of_connection / requests_.front().records,
                                     settings_.requests_in_flight, kRequestsInFlightMax);
  }

  void Fill(Connection& connection) {
    for (;;) {
      if (connection.out.empty()) {
        if (connection.sent.size() >= requests_in_flight_) return;
        const Request& request = requests_[connection.next];
        connection.next = (connection.next + 1) % requests_.size();
        connection.out = request.frame.view();
        connection.sent.emplace_back(Clock::now(), request.records);
      }
      const ssize_t n = send(connection.fd, connection.out.data(), connection.out.size(),
                             MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) Die("the server closed the connection");
      connection.out.remove_prefix(static_cast<size_t>(n));
    }
  }

  void Wait(Samples& samples) {
    polled_.clear();
    for (const Connection& connection : connections_) {
      const auto events = static_cast<short>(connection.out.empty() ? POLLIN : POLLIN | POLLOUT);
      polled_.push_back({connection.fd, events, 0});
    }
    if (poll(polled_.data(), polled_.size(), 1) < 0) Die("poll failed");
    for (size_t i = 0; i < polled_.size(); ++i) {
      if ((polled_[i].revents & ~POLLOUT) != 0) Receive(connections_[i], samples);
      if ((polled_[i].revents & POLLOUT) != 0) Fill(connections_[i]);
    }
  }

  void Receive(Connection& connection, Samples& samples) {
    static char chunk[1 << 18];
    const ssize_t n = recv(connection.fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n <= 0) Die("the server closed the connection");
    connection.in.append(chunk, static_cast<size_t>(n));
    size_t at = 0;
    while (connection.in.size() - at >= kafka::kLengthPrefixBytes) {
      const size_t size = base::LoadBig<uint32_t>(connection.in.data() + at);
      if (connection.in.size() - at - kafka::kLengthPrefixBytes < size) break;
      at += kafka::kLengthPrefixBytes;
      Check(connection, std::string_view(connection.in).substr(at, size));
      at += size;
      const auto [sent_at, records] = connection.sent.front();
      connection.sent.pop_front();
      records_acknowledged_ += records;
      samples.commit_ms.push_back(Seconds(Clock::now() - sent_at) * 1e3);
    }
    connection.in.erase(0, at);
  }

  static void Check(Connection& connection, std::string_view frame) {
    const auto response = kafka::DecodeResponse<kafka::ProduceResponse>(frame, kVersion);
    if (!response) Die(response.error().message);
    for (const auto& partition : response->responses.at(0).partition_responses) {
      if (partition.error_code != kafka::ErrorCode::kNone)
        Die("refused: " + std::string(kafka::ErrorName(partition.error_code)));
      int64_t& last = connection.last_offsets.at(static_cast<size_t>(partition.index));
      if (partition.base_offset <= last)
        Die("the offset of partition " + std::to_string(partition.index) + " did not rise");
      last = partition.base_offset;
    }
  }

  static constexpr int16_t kVersion = 9;
  static constexpr size_t kRequestsInFlightMax = 64;  // What the server reads ahead.
  const Settings& settings_;
  const int32_t partitions_;
  const std::string topic_;
  const int admin_;
  double create_seconds_ = 0;
  std::map<size_t, std::string> batches_;  // By their number of records.
  size_t batches_per_request_ = 0;
  size_t requests_in_flight_ = 0;  // Of each connection.
  std::vector<Request> requests_;
  std::vector<Connection> connections_;
  std::vector<pollfd> polled_;
  uint64_t records_acknowledged_ = 0;
};

void RunCurve(const Settings& settings) {
  Table table("curve", {"partitions", "records/s", "MB/s", "p50 ms", "p99 ms", "cores", "us/batch",
                        "own cores", "RSS MB", "anon MB", "create s"});
  for (const int32_t partitions : settings.partitions) {
    Producers producers(settings, partitions);
    producers.Run(settings.warm_up);
    const double own = OwnCpuSeconds();
    const double server = ProcessCpuSeconds(settings.pid);
    const Samples samples = producers.Run(settings.seconds);
    const double own_cores = (OwnCpuSeconds() - own) / samples.seconds;
    const double server_cores = (ProcessCpuSeconds(settings.pid) - server) / samples.seconds;
    const double resident = ResidentMegabytes(settings.pid, "VmRSS:");
    const double anonymous = ResidentMegabytes(settings.pid, "RssAnon:");
    const double records = static_cast<double>(producers.records_acknowledged()) / samples.seconds;
    const double batches = static_cast<double>(samples.commit_ms.size()) *
                           static_cast<double>(producers.batches_per_request()) / samples.seconds;
    producers.Settle();
    table.Add(std::to_string(partitions),
              {records, records * static_cast<double>(settings.record_bytes) / 1e6,
               Percentile(samples.commit_ms, 50), Percentile(samples.commit_ms, 99), server_cores,
               server_cores / std::max(batches, 1.0) * 1e6, own_cores, resident, anonymous,
               producers.create_seconds()});
  }
  if (!settings.json.empty()) Table::WriteJson(settings.json);
}

}  // namespace

void AddCurveCommand(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  CLI::App* command =
      app.add_subcommand("curve", "Partitions against durable throughput of a broker");
  command->add_option("--bootstrap", settings->bootstrap, "HOST:PORT")->required();
  command->add_option("--partitions", settings->partitions, "One row each")->delimiter(',');
  command->add_option("--record-bytes", settings->record_bytes, "Size of each value");
  command->add_option("--records-in-flight", settings->records_in_flight, "Of all connections");
  command->add_option("--batch-records", settings->batch_records,
                      "Records of each batch; 0: as the round over the partitions gives it");
  command->add_option("--connections", settings->connections, "Connections");
  command->add_option("--requests-in-flight", settings->requests_in_flight, "Of each connection");
  command->add_option("--warm-up", settings->warm_up, "Seconds before a row is measured");
  command->add_option("--seconds", settings->seconds, "Of each row");
  command->add_option("--pid", settings->pid, "The server, for its CPU and memory");
  command->add_option("--json", settings->json, "File for the figures");
  command->callback([settings] { RunCurve(*settings); });
}

}  // namespace holdfast::bench
