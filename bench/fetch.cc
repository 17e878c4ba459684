// What it costs a consumer to go through the agent: the same fetches, to the tier and through it.
//
//   holdfast_bench fetch --direct HOST:PORT --through HOST:PORT --topic T
//
// Slices of both alternate. `bulk` reads the topic's partition 0 in large pieces, over and over;
// `small` asks for one batch at a time, for the time that one answer takes.
#include "bench/fetch.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
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
  Reader direct(settings.direct, settings.topic);
  Reader through(settings.through, settings.topic);
  Table table("fetch", {"pieces", "direct MB/s", "MB/s", "ratio", "direct p50", "p50 ms",
                        "direct p99", "p99 ms"});
  const std::vector<std::pair<std::string, int32_t>> pieces{{"bulk", 4 << 20}, {"small", 1}};
  for (const auto& [name, bytes] : pieces) {
    Samples beside;
    Samples samples;
    for (int round = 0; round < settings.rounds; ++round) {
      beside.Add(RunSlice(direct, bytes, settings.seconds));
      samples.Add(RunSlice(through, bytes, settings.seconds));
    }
    table.Add(name, {beside.MegabytesPerSecond(), samples.MegabytesPerSecond(),
                     samples.MegabytesPerSecond() / beside.MegabytesPerSecond(),
                     Percentile(beside.commit_ms, 50), Percentile(samples.commit_ms, 50),
                     Percentile(beside.commit_ms, 99), Percentile(samples.commit_ms, 99)});
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
