#include "cli/trace_text.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>

#include "agent/spool_text.h"
#include "base/utf8.h"
#include "kafka/compression.h"
#include "kafka/error_code.h"

namespace holdfast::cli {
namespace {

using agent::CommittedTransaction;
using agent::DropCause;
using agent::RecordTrace;
using agent::TimeText;
using Json = nlohmann::ordered_json;
using Fate = RecordTrace::Fate;

// A line of the timeline. Without a time: of the one above, or not known.
std::string Line(std::optional<int64_t> time_ms, std::string_view what, std::string_view text) {
  return fmt::format("  {:24}  {:<12} {}\n", time_ms ? TimeText(*time_ms) : "", what,
                     base::Printable(text));
}

std::string OffsetsText(int64_t begin, int64_t end) {
  return end - begin == 1 ? fmt::format("offset {}", begin)
                          : fmt::format("offsets {} to {}", begin, end - 1);
}

std::string BatchText(const RecordTrace::Acceptance& accepted) {
  const kafka::BatchHeader& batch = accepted.batch;
  const std::string producer =
      batch.has_producer() ? fmt::format("producer {} epoch {} sequence {}", batch.producer.id,
                                         batch.producer.epoch, batch.producer.base_sequence)
                           : "no idempotent producer";
  return fmt::format(
      "{} in a batch of {} ({}), {}, {}; {}", accepted.entry.record_count == 1 ? "alone" : "one",
      agent::CountText(accepted.entry.record_count),
      OffsetsText(accepted.entry.base_offset, accepted.entry.end_offset()),
      agent::BytesText(accepted.entry.bytes), kafka::CodecName(batch.codec()), producer);
}

std::string RecordText(const RecordTrace::Acceptance::Record& record) {
  return fmt::format("its own time {}, key {}, value {}, {} headers", TimeText(record.timestamp_ms),
                     record.key ? "\"" + agent::Escaped(*record.key) + "\"" : "none",
                     record.value_bytes ? agent::BytesText(*record.value_bytes) : "none",
                     record.headers);
}

std::string TransactionText(const CommittedTransaction& transaction, const spool::State& state) {
  std::string others;
  for (const CommittedTransaction::Range& range : transaction.ranges)
    others += fmt::format("{}{} {}", others.empty() ? "" : ", ", state.stream(range.stream).name,
                          OffsetsText(range.begin, range.end));
  return fmt::format("committed here as local transaction {}, whole or not at all: {}",
                     transaction.number, others);
}

std::string OriginText(const RecordTrace::Acceptance& accepted) {
  if (accepted.half_message) return "a half message that was committed";
  std::string sources;
  for (const std::string& source : accepted.outboxes)
    sources += (sources.empty() ? "" : " or ") + source;
  return "the commit notes rows of outbox " + sources;
}

std::string_view RuleOf(DropCause cause) {
  switch (cause) {
    case DropCause::kExpired:
      return "it waited longer than its topic's ttl_ms";
    case DropCause::kMadeRoom:
      return "there was no room, and its topic has when_full: drop_oldest";
    case DropCause::kByHand:
      return "`holdfast spool drop` of its stream, or of another one of its local transaction";
    case DropCause::kDamaged:
      return "the spool's disk lost it, or a part of its local transaction";
    case DropCause::kDeadLetter:
      return "the tier refused it for good";
  }
  return "unknown";
}

std::string AcceptedText(const RecordTrace& trace, const spool::State& state) {
  if (!trace.accepted)
    return Line({}, "accepted", "its segment is gone: when, and what it was, is not known here");
  const RecordTrace::Acceptance& accepted = *trace.accepted;
  std::string text = Line(accepted.entry.commit_time_ms, "accepted", BatchText(accepted));
  if (accepted.record) text += Line({}, "", RecordText(*accepted.record));
  if (!accepted.unreadable.empty()) text += Line({}, "damaged", accepted.unreadable);
  text += Line(
      {}, "committed",
      fmt::format("in frame {} of segment {}", accepted.entry.commit.value(), accepted.segment));
  if (accepted.on_disk_by_ms)
    text += Line(accepted.on_disk_by_ms, "on disk", "for certain; the next commit was begun");
  if (accepted.transaction)
    text += Line({}, "transaction", TransactionText(*accepted.transaction, state));
  if (accepted.half_message || !accepted.outboxes.empty())
    text += Line({}, "origin", OriginText(accepted));
  return text;
}

std::string_view ProofText(agent::DeliveryProof proof) {
  switch (proof) {
    case agent::DeliveryProof::kAnswer:
      return "by the answer";
    case agent::DeliveryProof::kReadBack:
      return "found in the log of the tier, read back after an answer was lost";
    case agent::DeliveryProof::kTransaction:
      return "by the commit of a transaction";
    case agent::DeliveryProof::kRecognised:
      return "the tier was asked what arrived: it had it, and recognised a repeat";
  }
  return "";
}

std::string DeliveryText(const RecordTrace& trace) {
  if (!trace.delivery) return {};
  const agent::Delivery& delivery = *trace.delivery;
  const bool one_moment = delivery.last_ms == delivery.confirmed_ms;
  std::string text;
  if (delivery.attempts > 0)
    text += Line(
        delivery.since_ms, "failed",
        fmt::format("first with {}; {} attempts failed, the last with {}",
                    kafka::ErrorName(delivery.first_error), agent::CountText(delivery.attempts),
                    kafka::ErrorName(delivery.last_error)));
  // Of several that were confirmed within a minute these are bounds.
  if (delivery.proof == agent::DeliveryProof::kAnswer)
    text += Line(delivery.sent_ms, "sent",
                 fmt::format("to broker {}{}", delivery.node,
                             one_moment ? "" : ", or within the minute after"));
  text += Line(delivery.last_ms, "confirmed",
               fmt::format("{}{}", ProofText(delivery.proof), one_moment ? "" : ", at the latest"));
  return text;
}

std::string TroubleText(const RecordTrace& trace) {
  if (!trace.trouble) return {};
  return Line(trace.trouble->since_ms, trace.trouble->parked ? "parked" : "in trouble",
              trace.trouble->text);
}

std::string PassedText(const RecordTrace& trace) {
  if (!trace.passed) return {};
  const RecordTrace::Passing& passed = *trace.passed;
  return Line(passed.time_ms, "written down",
              fmt::format("that it is done with{}, in frame {}",
                          passed.at_latest ? ", at the latest" : "", passed.commit.value()));
}

std::string TierOffsetsText(const RecordTrace::TierOffsets& at) {
  return at.first == at.last ? fmt::format("offset {}", at.first)
                             : fmt::format("an offset from {} to {}", at.first, at.last);
}

std::string FateText(const RecordTrace& trace) {
  switch (trace.fate) {
    case Fate::kDelivered:
      return Line({}, "delivered",
                  trace.tier_offsets ? "the tier has it at " + TierOffsetsText(*trace.tier_offsets)
                                     : "the tier has it");
    case Fate::kDropped:
      return Line(trace.drop->when_ms, "dropped",
                  fmt::format("with {}: {}", OffsetsText(trace.drop->begin, trace.drop->end),
                              RuleOf(trace.drop->cause)));
    case Fate::kDeadLetter: {
      if (!trace.dead_letter)
        return Line(trace.drop->when_ms, "refused", "for good, and set aside as a dead letter");
      const RecordTrace::DeadLetter& letter = *trace.dead_letter;
      return Line(letter.time_ms, "refused",
                  fmt::format("by the tier, for good: {}{}{}", letter.error,
                              letter.message.empty() ? "" : ": ", letter.message)) +
             Line({}, "set aside", fmt::format("to {} offset {}", letter.stream, letter.offset));
    }
    case Fate::kByHand:
      if (!trace.drop) return Line({}, "thrown away", "by `holdfast spool drop`");
      return Line(trace.drop->when_ms, "thrown away",
                  fmt::format("with {}: {}", OffsetsText(trace.drop->begin, trace.drop->end),
                              RuleOf(trace.drop->cause)));
    case Fate::kWaits:
      return Line({}, "waits",
                  fmt::format("behind {} records of its stream",
                              agent::CountText(static_cast<uint64_t>(trace.ahead))));
    case Fate::kDamaged:
      return Line({}, "damaged", "it should be here, and cannot be read");
    case Fate::kDoneWith:
      return Line({}, "done with",
                  "delivered or given up; the list of what was given up does not reach back to it");
  }
  return {};
}

std::string_view ProofName(agent::DeliveryProof proof) {
  switch (proof) {
    case agent::DeliveryProof::kAnswer:
      return "answer";
    case agent::DeliveryProof::kReadBack:
      return "read back";
    case agent::DeliveryProof::kTransaction:
      return "transaction";
    case agent::DeliveryProof::kRecognised:
      return "recognised";
  }
  return "unknown";
}

template <class T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json AcceptedJson(const RecordTrace::Acceptance& accepted, const spool::State& state) {
  const spool::EntryInfo& entry = accepted.entry;
  const kafka::BatchHeader& batch = accepted.batch;
  Json json;
  json["time_ms"] = entry.commit_time_ms;
  json["frame"] = entry.commit.value();
  json["segment"] = accepted.segment;
  json["on_disk_by_ms"] = OrNull(accepted.on_disk_by_ms);
  json["batch"] = {{"base_offset", entry.base_offset},
                   {"records", entry.record_count},
                   {"bytes", entry.bytes},
                   {"compression", kafka::CodecName(batch.codec())},
                   {"producer_id", batch.producer.id},
                   {"producer_epoch", batch.producer.epoch},
                   {"base_sequence", batch.producer.base_sequence},
                   {"transactional", batch.transactional()}};
  if (accepted.record) {
    Json& record = json["record"];
    record["timestamp_ms"] = accepted.record->timestamp_ms;
    record["key"] = accepted.record->key ? Json(agent::Escaped(*accepted.record->key)) : Json();
    record["value_bytes"] = OrNull(accepted.record->value_bytes);
    record["headers"] = accepted.record->headers;
  }
  if (!accepted.unreadable.empty()) json["unreadable"] = accepted.unreadable;
  if (accepted.transaction) {
    Json& ranges = json["transaction"]["ranges"];
    for (const CommittedTransaction::Range& range : accepted.transaction->ranges)
      ranges.push_back({{"stream", state.stream(range.stream).name},
                        {"begin", range.begin},
                        {"end", range.end}});
    json["transaction"]["number"] = accepted.transaction->number;
  }
  if (!accepted.outboxes.empty()) json["outboxes"] = accepted.outboxes;
  if (accepted.half_message) json["half_message"] = true;
  return json;
}

}  // namespace

std::string_view FateName(Fate fate) {
  switch (fate) {
    case Fate::kWaits:
      return "waits";
    case Fate::kDelivered:
      return "delivered";
    case Fate::kDropped:
      return "dropped";
    case Fate::kDeadLetter:
      return "dead letter";
    case Fate::kByHand:
      return "thrown away";
    case Fate::kDamaged:
      return "damaged";
    case Fate::kDoneWith:
      return "done with";
  }
  return "unknown";
}

std::string VerdictOf(const RecordTrace& trace) {
  switch (trace.fate) {
    case Fate::kDelivered:
      if (!trace.tier_offsets) {
        return "Delivered. The tier said that it has the record; whoever misses it should look at "
               "the topic there, and at its retention.";
      }
      return fmt::format(
          "Delivered. The tier has it at {} of {}; whoever misses it should look there, and at the "
          "topic's retention.",
          TierOffsetsText(*trace.tier_offsets), trace.stream);
    case Fate::kDropped:
      return fmt::format(
          "Lost on purpose: {}. It is not at the tier; produce it again if it is "
          "still wanted, and look at the topic's rule.",
          RuleOf(trace.drop->cause));
    case Fate::kDeadLetter:
      if (trace.dead_letter && !trace.dead_letter->there)
        return fmt::format(
            "A dead letter once: it has left {} since, replayed, delivered to its topic, or "
            "dropped.",
            trace.dead_letter->stream);
      return fmt::format(
          "Not at the tier: a dead letter. Change what made the tier refuse it, then "
          "`holdfast dlq replay` it ({}).",
          trace.stream);
    case Fate::kByHand:
      return "Thrown away by a person before the tier had it; produce it again if it is still "
             "wanted.";
    case Fate::kWaits:
      if (trace.trouble)
        return fmt::format(
            "Safe on this disk, and not at the tier yet: {} since {}: {}.",
            trace.trouble->parked ? "its stream is held" : "its stream is tried again",
            TimeText(trace.trouble->since_ms), trace.trouble->text);
      return "Safe on this disk, and not at the tier yet. `/status` of the agent says what its "
             "stream waits for.";
    case Fate::kDamaged:
      return "Lost to damage of this disk before the tier had it: `holdfast spool verify` shows "
             "where. Produce it again.";
    case Fate::kDoneWith:
      return fmt::format(
          "Done with, and it is not known any more how: delivered, or one of {} records before "
          "offset {} that were dropped or set aside as dead letters. Look for it in the topic, and "
          "among the dead letters.",
          agent::CountText(trace.unlisted->records), trace.unlisted->before);
  }
  return {};
}

std::string TextOf(const RecordTrace& trace, const spool::State& state) {
  return fmt::format("{} offset {}\n", base::Printable(trace.stream), trace.offset) +
         AcceptedText(trace, state) + DeliveryText(trace) + FateText(trace) + TroubleText(trace) +
         PassedText(trace) + "\n" + base::Printable(VerdictOf(trace)) + "\n";
}

Json JsonOf(const RecordTrace& trace, const spool::State& state) {
  Json json;
  json["stream"] = trace.stream;
  json["offset"] = trace.offset;
  json["fate"] = FateName(trace.fate);
  json["accepted"] = trace.accepted ? AcceptedJson(*trace.accepted, state) : Json();
  if (trace.fate == Fate::kWaits) json["ahead"] = trace.ahead;
  if (trace.passed)
    json["passed"] = {{"time_ms", trace.passed->time_ms},
                      {"at_latest", trace.passed->at_latest},
                      {"frame", trace.passed->commit.value()}};
  if (trace.delivery) {
    const agent::Delivery& delivery = *trace.delivery;
    json["delivery"] = {{"begin", delivery.begin},
                        {"end", delivery.end},
                        {"broker", delivery.node},
                        {"sent_ms", delivery.sent_ms},
                        {"confirmed_ms", delivery.confirmed_ms},
                        {"last_confirmed_ms", delivery.last_ms},
                        {"proof", ProofName(delivery.proof)},
                        {"failed_attempts", delivery.attempts}};
    if (delivery.attempts > 0) {
      json["delivery"]["failed_since_ms"] = delivery.since_ms;
      json["delivery"]["first_error"] = kafka::ErrorName(delivery.first_error);
      json["delivery"]["last_error"] = kafka::ErrorName(delivery.last_error);
    }
  }
  if (trace.trouble)
    json["trouble"] = {{"since_ms", trace.trouble->since_ms},
                       {"parked", trace.trouble->parked},
                       {"text", trace.trouble->text}};
  if (trace.tier_offsets)
    json["tier_offsets"] = {{"first", trace.tier_offsets->first},
                            {"last", trace.tier_offsets->last}};
  if (trace.drop)
    json["drop"] = {{"begin", trace.drop->begin},
                    {"end", trace.drop->end},
                    {"cause", agent::DropCauseName(trace.drop->cause)},
                    {"when_ms", trace.drop->when_ms}};
  if (trace.dead_letter)
    json["dead_letter"] = {
        {"stream", trace.dead_letter->stream},   {"offset", trace.dead_letter->offset},
        {"there", trace.dead_letter->there},     {"error", trace.dead_letter->error},
        {"message", trace.dead_letter->message}, {"time_ms", trace.dead_letter->time_ms}};
  if (trace.unlisted)
    json["unlisted"] = {{"records", trace.unlisted->records}, {"before", trace.unlisted->before}};
  json["confirmed"] = trace.cursor.confirmed;
  json["end"] = trace.end;
  json["verdict"] = VerdictOf(trace);
  return json;
}

}  // namespace holdfast::cli
