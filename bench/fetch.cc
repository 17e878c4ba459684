// What it costs a consumer to go through the agent: the same fetches, to the tier and through it.
//
//   holdfast_bench fetch --direct HOST:PORT --through HOST:PORT --topic T
//
// Slices of both alternate, and of a third: a relay that does nothing but read and write, which is
// what any process between client and broker costs on this machine at least. `bulk` reads the
// topic's partition 0 in pieces of 4 MiB, over and over; `batch` asks for one batch at a time.
#include "bench/fetch.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/client.h"
#include "bench/samples.h"
#include "kafka/api/fetch.h"
#include "kafka/record_batch.h"

namespace holdfast::bench {
namespace {

struct Settings {
  std::string direct;
  std::string through;
  std::string topic = "bench";
  double seconds = 1;
  int rounds = 5;
};

class Reader {
 public:
  Reader(const std::string& address, std::string topic)
      : fd_(Connect(address)), topic_(std::move(topic)) {}
  ~Reader() { close(fd_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // One answer of at most about so many bytes; at the end it begins again.
  size_t Fetch(int32_t bytes) {
    kafka::FetchRequest request{.max_wait_ms = 100, .min_bytes = 1, .max_bytes = bytes};
    request.topics.push_back(
        {.topic = topic_,
         .partitions = {{.partition = 0, .fetch_offset = offset_, .partition_max_bytes = bytes}}});
    std::string frame;
    const kafka::FetchResponse response = Ask(fd_, request, kVersion, &frame);
    const auto& partition = response.responses.at(0).partitions.at(0);
    if (partition.error_code != kafka::ErrorCode::kNone)
      Die("fetch was refused with error " + std::to_string(static_cast<int>(partition.error_code)));
    const int64_t before = offset_;
    kafka::BatchIterator batches(partition.records.value_or(""));
    while (const auto batch = batches.Next()) offset_ = batch->header().next_offset();
    if (offset_ == before && before == 0) Die("topic " + topic_ + " is empty");
    if (offset_ >= partition.high_watermark) offset_ = 0;
    return frame.size();
  }

 private:
  static constexpr int16_t kVersion = 12;
  const int fd_;
  const std::string topic_;
  int64_t offset_ = 0;
};

// One connection, copied in both directions by a thread of its own.
class Relay {
 public:
  explicit Relay(const std::string& to) : tier_(Connect(to)) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    auto* const name = reinterpret_cast<sockaddr*>(&at);
    if (bind(listener, name, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, name, &size) != 0) {
      Die("cannot listen on the loopback interface");
    }
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    thread_ = std::thread([this, listener] {
      const int client = accept(listener, nullptr, nullptr);
      close(listener);
      const int on = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      Copy(client);
      shutdown(client, SHUT_RDWR);
      close(client);
    });
  }
  ~Relay() {
    shutdown(tier_, SHUT_RDWR);
    thread_.join();
    close(tier_);
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  void Copy(int client) {
    constexpr size_t kBytes = size_t{1} << 20;
    const auto space = std::make_unique_for_overwrite<char[]>(kBytes);
    std::array<pollfd, 2> ends{{{.fd = client, .events = POLLIN}, {.fd = tier_, .events = POLLIN}}};
    while (poll(ends.data(), ends.size(), -1) > 0) {
      for (size_t i = 0; i < ends.size(); ++i) {
        if (ends[i].revents == 0) continue;
        const ssize_t got = recv(ends[i].fd, space.get(), kBytes, 0);
        if (got <= 0) return;
        WriteAll(ends[1 - i].fd, {space.get(), static_cast<size_t>(got)});
      }
    }
  }

  const int tier_;
  std::string address_;
  std::thread thread_;
};

Samples RunSlice(Reader& reader, int32_t bytes, double seconds) {
  Samples samples;
  const auto begun = Clock::now();
  while (samples.seconds < seconds) {
    const auto asked = Clock::now();
    samples.bytes += reader.Fetch(bytes);
    samples.commit_ms.push_back(Seconds(Clock::now() - asked) * 1e3);
    samples.seconds = Seconds(Clock::now() - begun);
  }
  return samples;
}

void Run(const Settings& settings) {
  const Relay relay(settings.direct);
  Reader direct(settings.direct, settings.topic);
  Reader relayed(relay.address(), settings.topic);
  Reader through(settings.through, settings.topic);
  Table table("fetch", {"pieces", "direct MB/s", "relay MB/s", "MB/s", "relay ratio", "ratio",
                        "direct p50", "relay p50", "p50 ms", "direct p99", "p99 ms"});
  const std::vector<std::pair<std::string, int32_t>> pieces{{"bulk", 4 << 20}, {"batch", 1}};
  for (const auto& [name, bytes] : pieces) {
    Samples beside;
    Samples bare;
    Samples samples;
    for (int round = 0; round < settings.rounds; ++round) {
      beside.Add(RunSlice(direct, bytes, settings.seconds));
      bare.Add(RunSlice(relayed, bytes, settings.seconds));
      samples.Add(RunSlice(through, bytes, settings.seconds));
    }
    table.Add(name,
              {beside.MegabytesPerSecond(), bare.MegabytesPerSecond(), samples.MegabytesPerSecond(),
               bare.MegabytesPerSecond() / beside.MegabytesPerSecond(),
               samples.MegabytesPerSecond() / beside.MegabytesPerSecond(),
               Percentile(beside.commit_ms, 50), Percentile(bare.commit_ms, 50),
               Percentile(samples.commit_ms, 50), Percentile(beside.commit_ms, 99),
               Percentile(samples.commit_ms, 99)});
  }
}

}  // namespace

void AddFetchCommand(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  CLI::App* const command =
      app.add_subcommand("fetch", "Reading through an agent, beside reading from its tier");
  command->add_option("--direct", settings->direct, "HOST:PORT of the tier")->required();
  command->add_option("--through", settings->through, "HOST:PORT of the agent")->required();
  command->add_option("--topic", settings->topic, "With records in partition 0");
  command->add_option("--seconds", settings->seconds, "Length of a slice");
  command->add_option("--rounds", settings->rounds, "Slices of each kind");
  command->callback([settings] { Run(*settings); });
}

}  // namespace holdfast::bench
