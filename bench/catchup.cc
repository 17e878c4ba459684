// A consumer that comes from the beginning of a topic, once.
//
//   holdfast_bench catchup --bootstrap HOST:PORT --topic T --partitions N
//
// Asks as Kafka's consumers do: one request at a time to a broker, at most 50 MiB in an answer and
// 1 MiB of a partition, and what has just been read comes last the next time. For a figure of the
// disk the page cache has to be cold; bench/run sees to that.
#include "bench/catchup.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/client.h"
#include "bench/samples.h"
#include "kafka/api/fetch.h"
#include "kafka/record_batch.h"

namespace holdfast::bench {
namespace {

struct Settings {
  std::string bootstrap;
  std::string topic = "bench";
  int32_t partitions = 1;
};

constexpr int16_t kVersion = 12;
constexpr int32_t kAnswerBytes = 50 << 20;
constexpr int32_t kPartitionBytes = 1 << 20;

struct Position {
  int32_t partition = 0;
  int64_t offset = 0;
};

kafka::FetchRequest RequestFor(const Settings& settings, const std::deque<Position>& positions) {
  kafka::FetchRequest request{.max_wait_ms = 0, .min_bytes = 0, .max_bytes = kAnswerBytes};
  auto& topic = request.topics.emplace_back();
  topic.topic = settings.topic;
  for (const Position& position : positions) {
    topic.partitions.push_back({.partition = position.partition,
                                .fetch_offset = position.offset,
                                .partition_max_bytes = kPartitionBytes});
  }
  return request;
}

void Run(const Settings& settings) {
  const int fd = Connect(settings.bootstrap);
  std::deque<Position> positions;
  for (int32_t i = 0; i < settings.partitions; ++i) positions.push_back({.partition = i});
  Samples samples;
  const auto begun = Clock::now();
  while (!positions.empty()) {
    const auto asked = Clock::now();
    std::string frame;
    const kafka::FetchResponse response =
        Ask(fd, RequestFor(settings, positions), kVersion, &frame);
    samples.commit_ms.push_back(Seconds(Clock::now() - asked) * 1e3);
    samples.bytes += frame.size();
    std::deque<Position> untouched;
    std::deque<Position> read;
    for (const auto& partition : response.responses.at(0).partitions) {
      if (partition.error_code != kafka::ErrorCode::kNone)
        Die("fetch was refused: " + std::string(kafka::ErrorName(partition.error_code)));
      Position position = positions.front();
      positions.pop_front();
      if (position.partition != partition.partition_index) Die("partitions in another order");
      const int64_t before = position.offset;
      kafka::BatchIterator batches(partition.records.value_or(""));
      while (const auto batch = batches.Next()) position.offset = batch->header().next_offset();
      if (position.offset >= partition.high_watermark) continue;
      (position.offset == before ? untouched : read).push_back(position);
    }
    positions = std::move(untouched);
    positions.insert(positions.end(), read.begin(), read.end());
  }
  samples.seconds = Seconds(Clock::now() - begun);
  close(fd);
  Table table("catchup", {"partitions", "MB", "seconds", "MB/s", "requests", "p50 ms", "p99 ms"});
  table.Add(std::to_string(settings.partitions),
            {static_cast<double>(samples.bytes) / 1e6, samples.seconds,
             samples.MegabytesPerSecond(), static_cast<double>(samples.commit_ms.size()),
             Percentile(samples.commit_ms, 50), Percentile(samples.commit_ms, 99)});
}

}  // namespace

void AddCatchupCommand(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  CLI::App* const command =
      app.add_subcommand("catchup", "A consumer that reads a topic from its beginning");
  command->add_option("--bootstrap", settings->bootstrap, "HOST:PORT of the broker")->required();
  command->add_option("--topic", settings->topic, "With records in all its partitions");
  command->add_option("--partitions", settings->partitions, "The first so many are read");
  command->callback([settings] { Run(*settings); });
}

}  // namespace holdfast::bench
