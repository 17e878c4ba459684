// `holdfast dlq` for policy `topic`: dead letters in a topic of the tier, perhaps of many agents.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/spool_text.h"
#include "base/utf8.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/record_text.h"
#include "cli/security.h"
#include "cli/spool_verbs.h"
#include "client/message.h"
#include "client/topic_move.h"
#include "client/topic_reader.h"
#include "config/holdfast.pb.h"
#include "kafka/error_code.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;
using client::Message;

// A whole number, or nothing.
template <class Number>
std::optional<Number> NumberIn(const std::string* text) {
  Number number = 0;
  if (text == nullptr) return std::nullopt;
  const char* end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

const std::string* Find(const Message& message, std::string_view header) {
  return client::FindHeader(message, header);
}

struct Origin {
  std::string topic;
  int32_t partition = 0;

  [[nodiscard]] std::string name() const { return fmt::format("{}/{}", topic, partition); }
};

// None: no dead letter of an agent. The topic is anybody's to write to.
std::optional<Origin> OriginOf(const Message& message) {
  const std::string* topic = Find(message, agent::dead_letter_header::kTopic);
  const auto partition = NumberIn<int32_t>(Find(message, agent::dead_letter_header::kPartition));
  if (topic == nullptr || topic->empty() || !partition || *partition < 0) return std::nullopt;
  return Origin{.topic = *topic, .partition = *partition};
}

struct Counts {
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::optional<int64_t> oldest_ms;
};

class DeadLetterTopic {
 public:
  DeadLetterTopic(const client::Connection& connection, std::string topic)
      : connection_(connection), topic_(std::move(topic)) {}

  base::Result<int> List(bool json) const {
    std::map<std::string, Counts> origins;
    HF_RETURN_IF_ERROR(ForEach([&](const Message& message) {
      const auto origin = OriginOf(message);
      Counts& counts = origins[origin ? origin->name() : kNoOrigin];
      ++counts.records;
      counts.bytes += message.key.value_or("").size() + message.value.value_or("").size();
      const int64_t time = NumberIn<int64_t>(Find(message, agent::dead_letter_header::kTime))
                               .value_or(message.timestamp_ms);
      counts.oldest_ms = std::min(counts.oldest_ms.value_or(time), time);
      return true;
    }));
    size_t width = 6;
    for (const auto& [name, counts] : origins)
      width = std::max(width, base::Printable(name).size());
    if (!json)
      PrintText(fmt::format("{:<{}}  {:>12}  {:>10}  {}\n", "STREAM", width, "RECORDS", "BYTES",
                            "OLDEST"));
    for (const auto& [name, counts] : origins) PrintText(Line(name, counts, width, json));
    return kExitFine;
  }

  base::Result<int> Cat(const SpoolCommand& command) const {
    if (command.format == CatFormat::kRaw)
      return base::Unexpected(
          base::Code::kInvalid,
          "--format raw: records of a topic have no batches; take text or json");
    const std::string& stream = command.streams.front();
    uint64_t left = command.count.value_or(std::numeric_limits<uint64_t>::max());
    bool found = false;
    HF_RETURN_IF_ERROR(ForEach([&](const Message& message) {
      const auto origin = OriginOf(message);
      if ((origin ? origin->name() : kNoOrigin) != stream) return true;
      found = true;
      const int64_t offset = NumberIn<int64_t>(Find(message, agent::dead_letter_header::kOffset))
                                 .value_or(message.offset);
      if (offset < command.from.value_or(offset) || left == 0) return left > 0;
      PrintText(RecordLine(message, offset, command.format));
      return --left > 0 && !OutputFailed();
    }));
    if (!found)
      return base::Unexpected(base::Code::kNotFound,
                              fmt::format("{} has no dead letters of {}", topic_, stream));
    return kExitFine;
  }

  base::Result<int> Replay(const std::vector<std::string>& streams) const {
    Replayed router(topic_, {streams.begin(), streams.end()});
    const auto done = MoveTopic(connection_, {.topic = topic_, .group = Group()}, router);
    const int code = router.Report();
    HF_RETURN_IF_ERROR(done);
    return code;
  }

 private:
  static constexpr const char* kNoOrigin = "-";

  // Where dead letters go: back to where they come from, or to the end of their topic.
  class Replayed final : public client::Router {
   public:
    Replayed(const std::string& topic, std::set<std::string> streams)
        : topic_(topic), streams_(std::move(streams)) {}

    client::Destination Route(const Message& message, std::optional<int16_t> refused) override {
      const auto origin = Chosen(message);
      client::Destination to{.topic = topic_, .partition = message.partition};
      if (origin && !refused) {
        to.topic = origin->topic;
        to.partition = origin->partition;
      }
      const bool anew = origin && refused;
      for (const client::Header& header : message.headers) {
        const bool ours = header.key.starts_with(agent::dead_letter_header::kPrefix);
        if (ours && to.topic != topic_) continue;
        if (anew && (header.key == agent::dead_letter_header::kError ||
                     header.key == agent::dead_letter_header::kMessage ||
                     header.key == agent::dead_letter_header::kTime))
          continue;
        to.headers.push_back(header);
      }
      if (!anew) return to;
      const auto add = [&to](std::string_view key, std::string value) {
        to.headers.push_back({.key = std::string(key), .value = std::move(value)});
      };
      add(agent::dead_letter_header::kError, std::string(NameOf(*refused)));
      add(agent::dead_letter_header::kTime, std::to_string(agent::NowMs()));
      return to;
    }

    void Moved(const Message& message, std::optional<int16_t> refused) override {
      const auto origin = OriginOf(message);
      if (!origin) return;
      Outcome& outcome = outcomes_[origin->name()];
      if (IsBatch(message)) {
        if (Wanted(*origin)) ++outcome.batches;
      } else if (!Wanted(*origin)) {
        return;
      } else if (refused) {
        ++outcome.refused[std::string(NameOf(*refused))];
      } else {
        ++outcome.delivered;
      }
    }

    // What was done, also by a replay that was cut off.
    int Report() const {
      int code = kExitFine;
      bool any = false;
      for (const auto& [name, outcome] : outcomes_) {
        if (outcome.delivered > 0)
          PrintText(fmt::format("{}: {} records were delivered again\n", base::Printable(name),
                                outcome.delivered));
        for (const auto& [error, count] : outcome.refused) {
          Complain(fmt::format("{}: {} records were refused again, {}; they stay in {}", name,
                               count, error, topic_));
          code = kExitFailed;
        }
        if (outcome.batches > 0) {
          Complain(fmt::format("{}: {} batches cannot be read as records; they stay in {}", name,
                               outcome.batches, topic_));
          code = kExitFailed;
        }
        any = any || outcome.delivered > 0 || !outcome.refused.empty() || outcome.batches > 0;
      }
      if (!any) Complain("there are no dead letters");
      return code;
    }

   private:
    struct Outcome {
      uint64_t delivered = 0;
      uint64_t batches = 0;
      std::map<std::string, uint64_t> refused;  // By error.
    };

    static std::string_view NameOf(int16_t error) {
      return kafka::ErrorName(static_cast<kafka::ErrorCode>(error));
    }
    static bool IsBatch(const Message& message) {
      return Find(message, agent::dead_letter_header::kBatch) != nullptr;
    }
    [[nodiscard]] bool Wanted(const Origin& origin) const {
      return streams_.empty() || streams_.contains(origin.name());
    }
    // Where it is to go if that is possible.
    [[nodiscard]] std::optional<Origin> Chosen(const Message& message) const {
      auto origin = OriginOf(message);
      if (!origin || !Wanted(*origin) || IsBatch(message)) return std::nullopt;
      return origin;
    }

    const std::string& topic_;
    const std::set<std::string> streams_;  // Empty: all.
    std::map<std::string, Outcome> outcomes_;
  };

  static std::string Line(const std::string& name, const Counts& counts, size_t width, bool json) {
    if (!json)
      return fmt::format("{:<{}}  {:>12}  {:>10}  {} ({} ago)\n", base::Printable(name), width,
                         agent::CountText(counts.records), agent::BytesText(counts.bytes),
                         agent::TimeText(*counts.oldest_ms),
                         agent::AgeText(agent::NowMs() - *counts.oldest_ms));
    const Json line{{"stream", name},
                    {"records", counts.records},
                    {"bytes", counts.bytes},
                    {"oldest_ms", *counts.oldest_ms}};
    return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  static std::string RecordLine(const Message& message, int64_t offset, CatFormat format) {
    const kafka::Record record = RecordOf(message);
    if (format == CatFormat::kText) return TextOf(record) + "\n";
    return JsonOf(record, offset, message.timestamp_ms).dump() + "\n";
  }

  [[nodiscard]] std::string Group() const { return "holdfast-dlq-replay." + topic_; }

  // Of those that were not replayed yet, until `visit` says false.
  template <class Visit>
  base::Result<> ForEach(Visit visit) const {
    HF_ASSIGN_OR_RETURN(const auto reader, client::TopicReader::Open(connection_, topic_, Group()));
    while (true) {
      HF_ASSIGN_OR_RETURN(const auto message, reader->Next());
      if (!message || !visit(client::View(*message))) return {};
    }
  }

  const client::Connection& connection_;
  const std::string topic_;
};

}  // namespace

base::Result<int> RunOverTopic(const SpoolCommand& command, const config::Agent& config) {
  HF_ASSIGN_OR_RETURN(client::Connection::Options options, ConnectionOf(config.upstream()));
  const client::Connection connection(std::move(options));
  const DeadLetterTopic letters(connection, config.dead_letters().topic_name());
  switch (command.verb) {
    case SpoolVerb::kLs:
      return letters.List(command.json);
    case SpoolVerb::kCat:
      return letters.Cat(command);
    default:
      return letters.Replay(command.streams);
  }
}

}  // namespace holdfast::cli
