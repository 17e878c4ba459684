// `holdfast spool drop` and `compact`, and what all verbs ask before they change anything.
#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

#include "agent/forward_state.h"
#include "agent/spool_text.h"
#include "agent/transaction_state.h"
#include "base/event.h"
#include "broker/records.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "cli/stream_names.h"
#include "cli/terminal.h"
#include "spool/compaction.h"
#include "spool/directory.h"

namespace holdfast::cli {
namespace {

constexpr size_t kNamesShown = 5;

struct Waiting {
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::map<spool::StreamId, uint64_t> bytes_of;  // Of each stream.
};

// What is lost when these streams are dropped. Damage does not matter any more.
base::Result<Waiting> Measure(const spool::OfflineView& view,
                              const std::vector<spool::StreamId>& streams) {
  Waiting waiting;
  for (const spool::StreamId id : streams) {
    if (!waiting.bytes_of.emplace(id, 0).second) continue;
    const spool::StreamState& stream = view.state().stream(id);
    waiting.records += static_cast<uint64_t>(stream.end - stream.start);
  }
  if (waiting.records == 0) return waiting;
  ProgressBar bar("measuring");
  HF_RETURN_IF_ERROR(view.WalkEntries(
      [&](const spool::EntryInfo& info) {
        const auto of = waiting.bytes_of.find(info.stream);
        if (of == waiting.bytes_of.end()) return true;
        of->second += info.bytes;
        waiting.bytes += info.bytes;
        return true;
      },
      [](const base::Error&) {}, [&](uint64_t done, uint64_t total) { bar.Show(done, total); }));
  return waiting;
}

std::string NamesText(const StreamNames& names, const std::vector<spool::StreamId>& streams) {
  std::string text;
  for (size_t i = 0; i < streams.size() && i < kNamesShown; ++i)
    text += (i == 0 ? "" : ", ") + names.Of(streams[i]);
  if (streams.size() > kNamesShown)
    text += fmt::format(" and {} more", agent::CountText(streams.size() - kNamesShown));
  return text;
}

std::string AmountText(const Waiting& waiting) {
  return fmt::format("{} records ({})", agent::CountText(waiting.records),
                     agent::BytesText(waiting.bytes));
}

// A spool that cannot be read can still be thrown away, by somebody who knows that.
base::Result<std::string> AllText(const SpoolCommand& command) {
  HF_RETURN_IF_ERROR(spool::Directory::Look(command.directory));
  const auto view = OpenView(command);
  if (!view)
    return fmt::format("Throw away {} whole? How much waits in it cannot be told: {}",
                       command.directory, view.error().message);
  std::vector<spool::StreamId> all;
  for (uint32_t id = 0; id < (*view)->state().streams().size(); ++id) all.emplace_back(id);
  HF_ASSIGN_OR_RETURN(const Waiting waiting, Measure(**view, all));
  return fmt::format("Throw away {} whole, with {} in {} streams, and all its state?",
                     command.directory, AmountText(waiting), agent::CountText(all.size()));
}

base::Result<int> DropAll(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const std::string question, AllText(command));
  if (const int code = Confirm(command.yes, question); code != kExitFine) return code;
  HF_ASSIGN_OR_RETURN(spool::Directory directory,
                      spool::Directory::OpenExisting(command.directory));
  HF_RETURN_IF_ERROR(directory.RemoveAll());
  PrintText(fmt::format("dropped {}\n", command.directory));
  return kExitFine;
}

}  // namespace

base::Result<void> CheckIdle(const std::string& directory) {
  HF_ASSIGN_OR_RETURN(const auto view, spool::Directory::Look(directory));
  if (!view.live) return {};
  return base::Unexpected(base::Code::kUnavailable,
                          fmt::format("{}: the process with pid {} uses this spool; stop it first",
                                      directory, view.owner),
                          base::Event::kSpoolInUse);
}

int Confirm(bool yes, const std::string& question) {
  if (yes) return kExitFine;
  switch (Ask(question)) {
    case Answer::kYes:
      return kExitFine;
    case Answer::kNo:
      Complain("nothing was changed");
      return kExitFailed;
    case Answer::kNobodyThere:
      Complain(question);
      Complain("there is no terminal to ask at; give --yes if that is what you want");
      return kExitWrongUsage;
  }
  return kExitFailed;
}

base::Result<int> DropStreams(const SpoolCommand& command) {
  HF_RETURN_IF_ERROR(CheckIdle(command.directory));
  if (command.all) return DropAll(command);
  std::vector<spool::StreamId> streams;
  Waiting waiting;
  std::string named;
  std::map<std::string, std::string> given_up;
  std::map<std::string, std::string> values;
  {
    HF_ASSIGN_OR_RETURN(const auto view, OpenView(command));
    const StreamNames names(view->state());
    for (const std::string& name : command.streams) {
      HF_ASSIGN_OR_RETURN(const spool::StreamId id, names.Find(name));
      streams.push_back(id);
    }
    HF_ASSIGN_OR_RETURN(waiting, Measure(*view, streams));
    named = NamesText(names, streams);
    given_up = agent::GiveUpWith(streams, view->state());
    // A broker delivers nothing, and has no such list.
    if (!view->state().Get(broker::kClusterIdKey)) {
      HF_ASSIGN_OR_RETURN(values,
                          agent::ListByHand(waiting.bytes_of, view->state(), agent::NowMs()));
    }
  }
  if (waiting.records == 0) {
    PrintText(fmt::format("nothing waits in {}\n", named));
    return kExitFine;
  }
  std::string question = fmt::format("Throw away {} of {}?", AmountText(waiting), named);
  if (!given_up.empty()) {
    question +=
        fmt::format(" {} local transactions have records in other streams as well, and go whole.",
                    agent::CountText(given_up.size()));
  }
  if (const int code = Confirm(command.yes, question); code != kExitFine) return code;
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  values.insert(given_up.begin(), given_up.end());
  HF_ASSIGN_OR_RETURN(const auto report, spool::DropBacklogs(command.directory, keys, streams,
                                                             values, agent::NowMs(), CheckEntry));
  PrintText(fmt::format("dropped {} of {}, freed {} of disk\n", AmountText(waiting), named,
                        agent::BytesText(report.freed_bytes)));
  if (!given_up.empty()) {
    PrintText(fmt::format("gave up {} local transactions, also in their other streams\n",
                          agent::CountText(given_up.size())));
  }
  return kExitFine;
}

base::Result<int> CompactSpool(const SpoolCommand& command) {
  HF_RETURN_IF_ERROR(CheckIdle(command.directory));
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  ProgressBar bar("compacting");
  HF_ASSIGN_OR_RETURN(
      const auto report,
      spool::Compact(
          command.directory, keys, [&](uint64_t done, uint64_t total) { bar.Show(done, total); },
          CheckEntry));
  PrintText(fmt::format("{} segments rewritten, {} removed, {} of disk freed\n",
                        agent::CountText(report.rewritten_segments),
                        agent::CountText(report.removed_segments),
                        agent::BytesText(report.freed_bytes)));
  return kExitFine;
}

}  // namespace holdfast::cli
