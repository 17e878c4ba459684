// `holdfast spool export` and `import`.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include "agent/spool_text.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "cli/terminal.h"
#include "spool/directory.h"
#include "spool/transfer.h"

namespace holdfast::cli {
namespace {

constexpr const char* kStandard = "-";

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ > STDERR_FILENO) close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

  base::Result<void> Write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return base::Unexpected(base::ErrnoError("cannot write the export", errno));
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return {};
  }
  base::Result<size_t> Read(std::span<char> out) const {
    for (;;) {
      const ssize_t got = read(fd_, out.data(), out.size());
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR)
        return base::Unexpected(base::ErrnoError("cannot read the export", errno));
    }
  }

 private:
  const int fd_;
};

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Both are for good when this returns: the bytes, and their name.
base::Result<void> Publish(const File& file, const std::string& draft, const std::string& path) {
  if (fsync(file.fd()) != 0)
    return base::Unexpected(base::ErrnoError(draft + ": cannot flush to the disk", errno));
  if (rename(draft.c_str(), path.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot rename", errno));
  const File above(open(DirectoryOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (above.fd() >= 0 && fsync(above.fd()) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot flush to the disk", errno));
  return {};
}

std::string AmountText(const spool::TransferReport& report) {
  return fmt::format("{} entries ({}) in {} commits and {} segments",
                     agent::CountText(report.entries), agent::BytesText(report.entry_bytes),
                     agent::CountText(report.commits), agent::CountText(report.segments));
}

base::Result<spool::TransferReport> ExportTo(const SpoolCommand& command, const File& file) {
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  ProgressBar bar("exporting");
  spool::ExportOptions options{.keys = keys, .time_ms = agent::NowMs()};
  options.progress = [&](uint64_t done, uint64_t total) { bar.Show(done, total); };
  options.check_entry = CheckEntry;
  if (!command.copy)
    options.hand_over =
        fmt::format("this spool was handed over at {} to {}", agent::TimeText(options.time_ms),
                    command.file == kStandard ? "standard output" : command.file);
  return spool::Export(command.directory, options,
                       [&](std::string_view bytes) { return file.Write(bytes); });
}

base::Result<spool::TransferReport> ExportToFile(const SpoolCommand& command) {
  if (access(command.file.c_str(), F_OK) == 0)
    return base::Unexpected(base::Code::kInvalid,
                            command.file + ": exists already; remove it, or choose another name");
  const std::string draft = command.file + ".part";
  const File file(open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.fd() < 0) return base::Unexpected(base::ErrnoError(draft + ": cannot make it", errno));
  base::Result<spool::TransferReport> report = ExportTo(command, file);
  if (report) {
    if (auto published = Publish(file, draft, command.file); !published)
      report = base::Unexpected(std::move(published).error());
  }
  if (!report) (void)unlink(draft.c_str());
  return report;
}

base::Result<int> Undo(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(spool::Directory directory,
                      spool::Directory::OpenExisting(command.directory));
  if (directory.being_removed()) HF_RETURN_IF_ERROR(directory.CheckExported());
  HF_ASSIGN_OR_RETURN(const auto exported, directory.exported());
  if (!exported)
    return base::Unexpected(base::Code::kInvalid,
                            command.directory + ": this spool was not handed over");
  HF_RETURN_IF_ERROR(directory.ClearExported());
  PrintText(fmt::format("taken back; make sure that nobody imports the export ({})\n", *exported));
  return kExitFine;
}

// If it failed behind the mark, the spool is closed and the export may not be whole.
base::Error SayIfMarked(const SpoolCommand& command, base::Error error) {
  const auto directory = spool::Directory::Look(command.directory);
  if (directory && directory->exported)
    error.message += "; " + command.directory +
                     " is marked as handed over. If nobody has the export, take it back: holdfast "
                     "spool export --undo " +
                     command.directory;
  return error;
}

}  // namespace

base::Result<int> ExportSpool(const SpoolCommand& command) {
  // So that a pipe that breaks is an error, which says what to do.
  std::signal(SIGPIPE, SIG_IGN);
  HF_RETURN_IF_ERROR(CheckIdle(command.directory));
  if (command.undo) return Undo(command);
  HF_ASSIGN_OR_RETURN(const auto before, spool::Directory::Look(command.directory));
  const bool standard = command.file == kStandard;
  if (standard && isatty(STDOUT_FILENO) == 1)
    return base::Unexpected(base::Code::kInvalid,
                            "an export is not for a terminal; name a file, or use a pipe");
  const auto report = standard ? ExportTo(command, File(STDOUT_FILENO)) : ExportToFile(command);
  if (!report && !before.exported) return base::Unexpected(SayIfMarked(command, report.error()));
  if (!report) return base::Unexpected(report.error());
  std::fputs(
      fmt::format("exported {}, {}{}\n", AmountText(*report), agent::BytesText(report->bytes),
                  command.copy ? "" : "; the spool is handed over and does not open any more")
          .c_str(),
      stderr);
  return kExitFine;
}

base::Result<int> ImportSpool(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  const bool standard = command.file == kStandard;
  const File file(standard ? STDIN_FILENO : open(command.file.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0)
    return base::Unexpected(base::ErrnoError(command.file + ": cannot open", errno));
  struct stat info {};
  const bool known = fstat(file.fd(), &info) == 0 && S_ISREG(info.st_mode);
  ProgressBar bar("importing");
  spool::ImportOptions options{.keys = keys, .progress = {}, .check_entry = CheckEntry};
  options.progress = [&](uint64_t done, uint64_t) {
    bar.Show(done, known ? static_cast<uint64_t>(info.st_size) : 0);
  };
  HF_ASSIGN_OR_RETURN(const auto report,
                      spool::Import(command.directory, options,
                                    [&](std::span<char> out) { return file.Read(out); }));
  PrintText(fmt::format("imported {} into {}\n", AmountText(report), command.directory));
  return kExitFine;
}

}  // namespace holdfast::cli
