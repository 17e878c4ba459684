// `holdfast spool status` and `ls`.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/spool_text.h"
#include "base/utf8.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "cli/stream_names.h"
#include "cli/terminal.h"
#include "spool/offline.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;
using spool::EntryInfo;
using spool::OfflineView;

std::string OwnerText(const spool::DirectoryView& directory) {
  if (directory.live) return "the process with pid " + directory.owner;
  return directory.owner.empty() ? "nobody"
                                 : "nobody (the last one had pid " + directory.owner + ")";
}

std::string SinceText(std::optional<int64_t> time_ms) {
  if (!time_ms) return "-";
  return fmt::format("{} ({} ago)", agent::TimeText(*time_ms),
                     agent::AgeText(agent::NowMs() - *time_ms));
}

struct Summary {
  uint64_t entry_bytes = 0;
  uint64_t records = 0;
  uint64_t streams_with_records = 0;
  std::optional<int64_t> oldest_ms;
};

base::Result<Summary> Summarize(const OfflineView& view) {
  Summary summary;
  for (const auto& segment : view.segments()) summary.entry_bytes += segment.entry_bytes;
  for (const auto& stream : view.state().streams()) {
    summary.records += static_cast<uint64_t>(stream.end - stream.start);
    if (stream.end != stream.start) ++summary.streams_with_records;
  }
  if (summary.records == 0) return summary;
  // Commits are in the order of time, so the first entry that anybody needs is the oldest.
  HF_RETURN_IF_ERROR(view.WalkEntries(
      [&](const EntryInfo& info) {
        summary.oldest_ms = info.commit_time_ms;
        return false;
      },
      [](const base::Error&) {}, nullptr));
  return summary;
}

Json StatusJson(const OfflineView& view, const Summary& summary) {
  const spool::DirectoryView& directory = view.directory();
  Json json;
  json["directory"] = view.path();
  json["format"] = directory.format;
  json["id"] = spool::ToText(directory.id);
  json["live"] = directory.live;
  json["owner_pid"] =
      directory.live && !directory.owner.empty() ? Json(std::stoll(directory.owner)) : Json();
  json["handed_over"] = directory.exported ? Json(*directory.exported) : Json();
  json["being_removed"] = directory.being_removed;
  json["segments"] = view.segments().size();
  json["disk_bytes"] = view.disk_bytes();
  json["entry_bytes"] = summary.entry_bytes;
  json["streams"] = view.state().streams().size();
  json["streams_with_records"] = summary.streams_with_records;
  json["records"] = summary.records;
  json["newest_commit"] = view.newest_commit().value();
  json["oldest_ms"] = summary.oldest_ms ? Json(*summary.oldest_ms) : Json();
  return json;
}

struct Backlog {
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::optional<int64_t> oldest_ms;
};

base::Result<std::vector<Backlog>> MeasureBacklogs(const OfflineView& view, bool* damaged) {
  std::vector<Backlog> backlogs(view.state().streams().size());
  ProgressBar bar("measuring");
  HF_RETURN_IF_ERROR(view.WalkEntries(
      [&](const EntryInfo& info) {
        Backlog& backlog = backlogs[info.stream.value()];
        const int64_t start = view.state().stream(info.stream).start;
        backlog.records +=
            static_cast<uint64_t>(info.end_offset() - std::max(start, info.base_offset));
        backlog.bytes += info.bytes;
        if (!backlog.oldest_ms) backlog.oldest_ms = info.commit_time_ms;
        return true;
      },
      [&](const base::Error& error) {
        *damaged = true;
        Complain(error);
      },
      [&](uint64_t done, uint64_t total) { bar.Show(done, total); }));
  return backlogs;
}

std::vector<spool::StreamId> Shown(const SpoolCommand& command, const StreamNames& names,
                                   const OfflineView& view) {
  std::vector<spool::StreamId> shown = names.Sorted();
  if (!command.dead_letters) return shown;
  std::erase_if(shown, [&](spool::StreamId id) {
    const spool::StreamState& stream = view.state().stream(id);
    return !agent::ParseDeadLetterStreamName(names.Of(id)) || stream.start == stream.end;
  });
  return shown;
}

}  // namespace

base::Result<int> ShowStatus(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const auto view, OpenView(command));
  HF_ASSIGN_OR_RETURN(const Summary summary, Summarize(*view));
  if (command.json) {
    PrintText(StatusJson(*view, summary).dump(-1, ' ', false, Json::error_handler_t::replace) +
              "\n");
    return kExitFine;
  }
  const spool::DirectoryView& directory = view->directory();
  const auto line = [](std::string_view name, const std::string& value) {
    PrintText(fmt::format("{:<15}{}\n", name, value));
  };
  line("directory", view->path());
  line("format", std::to_string(directory.format));
  line("id", spool::ToText(directory.id));
  line("owner", OwnerText(directory));
  if (directory.exported) line("handed over", *directory.exported);
  if (directory.being_removed)
    line("being removed",
         "what is left is no whole spool; if that was cut off, finish it: "
         "holdfast spool drop --all " +
             view->path());
  line("segments", agent::CountText(view->segments().size()));
  line("disk", agent::BytesText(view->disk_bytes()));
  line("entries", agent::BytesText(summary.entry_bytes));
  line("streams",
       fmt::format("{}, {} of them with records", agent::CountText(view->state().streams().size()),
                   agent::CountText(summary.streams_with_records)));
  line("records", agent::CountText(summary.records));
  line("newest commit", std::to_string(view->newest_commit().value()));
  line("oldest record", SinceText(summary.oldest_ms));
  return kExitFine;
}

base::Result<int> ListStreams(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const auto view, OpenView(command));
  const StreamNames names(view->state());
  bool damaged = false;
  HF_ASSIGN_OR_RETURN(const std::vector<Backlog> backlogs, MeasureBacklogs(*view, &damaged));
  const std::vector<spool::StreamId> shown = Shown(command, names, *view);
  const auto name_of = [&](spool::StreamId id) {
    const std::string name(command.dead_letters ? *agent::ParseDeadLetterStreamName(names.Of(id))
                                                : names.Of(id));
    return command.json ? name : base::Printable(name);
  };
  size_t width = 6;
  for (const spool::StreamId id : shown) width = std::max(width, name_of(id).size());
  if (!command.json)
    PrintText(fmt::format("{:<{}}  {:>12}  {:>12}  {:>12}  {:>10}  {}\n", "STREAM", width, "START",
                          "END", "RECORDS", "BYTES", "OLDEST"));
  for (const spool::StreamId id : shown) {
    const spool::StreamState& stream = view->state().stream(id);
    const Backlog& backlog = backlogs[id.value()];
    if (command.json) {
      Json json;
      json["stream"] = name_of(id);
      json["id"] = id.value();
      json["start"] = stream.start;
      json["end"] = stream.end;
      json["records"] = backlog.records;
      json["bytes"] = backlog.bytes;
      json["oldest_ms"] = backlog.oldest_ms ? Json(*backlog.oldest_ms) : Json();
      PrintText(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    } else {
      PrintText(fmt::format("{:<{}}  {:>12}  {:>12}  {:>12}  {:>10}  {}\n", name_of(id), width,
                            stream.start, stream.end, agent::CountText(backlog.records),
                            agent::BytesText(backlog.bytes), SinceText(backlog.oldest_ms)));
    }
  }
  return damaged ? kExitFailed : kExitFine;
}

}  // namespace holdfast::cli
