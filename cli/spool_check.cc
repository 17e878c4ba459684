// `holdfast spool verify` and `repair`.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "agent/spool_text.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "cli/terminal.h"
#include "kafka/record_batch.h"
#include "spool/directory.h"
#include "spool/verify.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;

// The part that the spool cannot know: what an entry's bytes are.
base::Result<void> CheckBatch(std::string_view, const spool::EntryView& entry) {
  HF_RETURN_IF_ERROR(kafka::CheckStored(entry.bytes));
  const kafka::BatchHeader header = kafka::RecordBatchView(entry.bytes).header();
  if (int64_t{header.last_offset_delta} + 1 != entry.info.record_count)
    return base::Unexpected(base::Code::kCorrupt,
                            fmt::format("a record batch for {} offsets, where {} are expected",
                                        header.last_offset_delta + 1, entry.info.record_count));
  return {};
}

std::string LossText(const spool::Damage::Loss& loss) {
  return fmt::format("{} [{}, {})", loss.stream, loss.offsets.start, loss.offsets.end);
}

Json LossJson(const spool::Damage::Loss& loss) {
  return {{"stream", loss.stream}, {"start", loss.offsets.start}, {"end", loss.offsets.end}};
}

std::string DamageText(const spool::Damage& damage) {
  std::string text = fmt::format("segment {}", damage.segment);
  if (damage.commit) text += fmt::format(", commit {}", damage.commit->value());
  text += ": " + damage.what;
  for (size_t i = 0; i < damage.losses.size(); ++i)
    text += (i == 0 ? "; lost: " : ", ") + LossText(damage.losses[i]);
  return text;
}

Json ReportJson(const spool::VerifyReport& report) {
  Json json;
  json["segments"] = report.segments;
  json["frames"] = report.frames;
  json["entries"] = report.entries;
  json["entry_bytes"] = report.entry_bytes;
  json["torn_segment"] = report.torn_segment ? Json(*report.torn_segment) : Json();
  json["nameless"] = Json::array();
  for (const auto& stream : report.nameless) json["nameless"].push_back(LossJson(stream));
  json["damages"] = Json::array();
  for (const spool::Damage& damage : report.damages) {
    Json one;
    one["segment"] = damage.segment;
    one["commit"] = damage.commit ? Json(damage.commit->value()) : Json();
    one["what"] = damage.what;
    one["lost"] = Json::array();
    for (const auto& loss : damage.losses) one["lost"].push_back(LossJson(loss));
    json["damages"].push_back(std::move(one));
  }
  return json;
}

void PrintReport(const spool::VerifyReport& report) {
  for (const spool::Damage& damage : report.damages) PrintText(DamageText(damage) + "\n");
  for (const auto& stream : report.nameless)
    PrintText(fmt::format("{}: its name is lost, so these records are not delivered (HF2110)\n",
                          LossText(stream)));
  if (report.torn_segment)
    PrintText(
        fmt::format("segment {}: its newest commit was torn while it was written, and had "
                    "not been acknowledged (HF2109)\n",
                    *report.torn_segment));
  PrintText(fmt::format("{} segments, {} commits, {} entries, {}: {}\n",
                        agent::CountText(report.segments), agent::CountText(report.frames),
                        agent::CountText(report.entries), agent::BytesText(report.entry_bytes),
                        report.sound()
                            ? "all sound"
                            : fmt::format("{} damaged", agent::CountText(report.damages.size() +
                                                                         report.nameless.size()))));
}

base::Result<spool::VerifyReport> Check(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  ProgressBar bar("verifying");
  return spool::Verify(command.directory,
                       {.keys = keys,
                        .progress = [&](uint64_t done, uint64_t total) { bar.Show(done, total); },
                        .check_entry = CheckBatch});
}

}  // namespace

base::Result<void> CheckEntry(const spool::EntryView& entry) {
  base::Result<void> checked = CheckBatch({}, entry);
  if (!checked)
    Complain(fmt::format("commit {}, stream {}, offset {} is damaged, and left out: {}",
                         entry.info.commit.value(), entry.info.stream.value(),
                         entry.info.base_offset, checked.error().message));
  return checked;
}

base::Result<int> VerifySpool(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const auto report, Check(command));
  if (command.json) {
    PrintText(ReportJson(report).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    PrintReport(report);
  }
  return report.sound() ? kExitFine : kExitFailed;
}

base::Result<int> RepairSpool(const SpoolCommand& command) {
  HF_RETURN_IF_ERROR(CheckIdle(command.directory));
  HF_ASSIGN_OR_RETURN(const auto found, Check(command));
  PrintReport(found);
  if (found.damages.empty()) return found.sound() ? kExitFine : kExitFailed;
  if (const int code =
          Confirm(command.yes, "Write the damaged segments anew, without what is lost?");
      code != kExitFine)
    return code;
  {
    ProgressBar bar("repairing");
    HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
    HF_RETURN_IF_ERROR(spool::Repair(
        command.directory, keys, [&](uint64_t done, uint64_t total) { bar.Show(done, total); },
        CheckEntry));
  }
  HF_ASSIGN_OR_RETURN(const auto left, Check(command));
  if (left.damages.empty()) {
    PrintText(left.sound() ? "repaired\n" : "repaired, but for the names\n");
  } else {
    PrintText("repaired, but for this:\n");
    PrintReport(left);
  }
  return left.sound() ? kExitFine : kExitFailed;
}

}  // namespace holdfast::cli
