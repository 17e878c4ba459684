#include "agent/outbox/lmdb_source.h"

#include <fmt/format.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#include "agent/outbox/lmdb_event.h"
#include "include/holdfast/outbox.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

// If the agent makes the lock file, the service gets no more readers than this.
constexpr unsigned kReadersMax = 1024;
constexpr unsigned kDatabasesMax = 2;

MDB_val KeyOf(const int64_t& position) {
  return {sizeof position, const_cast<int64_t*>(&position)};  // LMDB does not write through it.
}
std::string_view FromVal(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}
// Also what a database has of another kind, that was given our name.
int64_t PositionOf(const MDB_val& key) {
  int64_t position = 0;
  std::memcpy(&position, key.mv_data, std::min(key.mv_size, sizeof position));
  return position;
}

bool IsThere(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0;
}

}  // namespace

void LmdbSource::CloseEnvironment::operator()(MDB_env* environment) const {
  mdb_env_close(environment);
}
void LmdbSource::Abort::operator()(MDB_txn* txn) const { mdb_txn_abort(txn); }

base::Error LmdbSource::ErrorOf(std::string_view what, int code) const {
  std::string message = fmt::format("{}: cannot {}: {}", data_file_, what, mdb_strerror(code));
  switch (code) {
    case MDB_MAP_FULL:
      return {Code::kFull, message + " (the service enlarges it with mdb_env_set_mapsize)"};
    case MDB_READERS_FULL:
    case ENOENT:
    case ENOMEM:
    case EAGAIN:
    case ENOSPC:
      return {Code::kUnavailable, std::move(message)};
    case MDB_VERSION_MISMATCH:
      return {Code::kInvalid,
              message + fmt::format(" (the agent has LMDB {}.{}.{}; the service needs one with the "
                                    "same format of files)",
                                    MDB_VERSION_MAJOR, MDB_VERSION_MINOR, MDB_VERSION_PATCH)};
    case MDB_INVALID:
      return {Code::kInvalid, message + " (is it an LMDB environment?)"};
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
      return {Code::kInvalid, message + " (it is damaged)"};
    case EACCES:
    case EPERM:
    case EROFS:
      return {Code::kInvalid, message +
                                  " (the agent has to be able to write to the data file and to the "
                                  "lock file)"};
    default:
      return {Code::kIo, std::move(message)};
  }
}

Result<void> LmdbSource::Open() {
  environment_.reset();
  HF_RETURN_IF_ERROR(OpenEnvironment());
  HF_RETURN_IF_ERROR(OpenDatabases());
  seen_txn_ = 0;
  // What an agent removed that was killed before it could flush that.
  if (const int code = mdb_env_sync(environment_.get(), 1); code != 0) {
    return Unexpected(ErrorOf("flush", code));
  }
  return {};
}

std::string LmdbSource::LockFile() const {
  return options_.environment + (in_directory_ ? "/lock.mdb" : "-lock");
}

Result<void> LmdbSource::FindEnvironment() {
  const auto absent = [this] {
    return Unexpected(Code::kUnavailable,
                      fmt::format("{}: there is no LMDB environment yet, and the agent does not "
                                  "make it",
                                  options_.environment));
  };
  struct stat status {};
  if (stat(options_.environment.c_str(), &status) != 0) return absent();
  in_directory_ = S_ISDIR(status.st_mode);
  const std::string named = options_.environment + (in_directory_ ? "/data.mdb" : "");
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(named.c_str(), nullptr),
                                                         &std::free);
  // LMDB would make one out of an empty file.
  if (!real || stat(real.get(), &status) != 0 || status.st_size == 0) return absent();
  if (!S_ISREG(status.st_mode)) {
    return Unexpected(Code::kInvalid, fmt::format("{}: not a file", named));
  }
  data_file_ = real.get();
  return {};
}

Result<void> LmdbSource::MapEnvironment(unsigned flags, unsigned readers_max, mode_t mode) {
  MDB_env* environment = nullptr;
  if (const int code = mdb_env_create(&environment); code != 0) {
    return Unexpected(ErrorOf("make an environment", code));
  }
  environment_.reset(environment);
  mdb_env_set_maxdbs(environment, kDatabasesMax);
  mdb_env_set_maxreaders(environment, readers_max);
  flags |= MDB_NOTLS | (in_directory_ ? 0 : MDB_NOSUBDIR);
  if (const int code = mdb_env_open(environment, options_.environment.c_str(), flags, mode);
      code != 0) {
    environment_.reset();
    return Unexpected(ErrorOf("open it", code));
  }
  return {};
}

Result<void> LmdbSource::OpenEnvironment() {
  HF_RETURN_IF_ERROR(FindEnvironment());
  HF_RETURN_IF_ERROR(lock_.Hold(LockPath(), data_file_));
  struct stat status {};
  if (stat(data_file_.c_str(), &status) != 0) return Unexpected(ErrorOf("open it", errno));
  const mode_t mode = status.st_mode & 0666;
  HF_RETURN_IF_ERROR(MapEnvironment(MDB_NOMETASYNC, kReadersMax, mode));
  // If it was not there until now, the umask must not keep the service out.
  const std::string lock_file = LockFile();
  if (stat(lock_file.c_str(), &status) == 0 && status.st_uid == geteuid() &&
      (status.st_mode & mode) != mode) {
    chmod(lock_file.c_str(), mode);
  }
  // Of processes that were killed: what they were reading would be kept for ever.
  mdb_reader_check(environment_.get(), nullptr);
  return {};
}

Result<void> LmdbSource::OpenDatabases() {
  HF_ASSIGN_OR_RETURN(Transaction txn, Begin(MDB_RDONLY));
  for (const auto& [name, handle] : {std::pair(HOLDFAST_OUTBOX_EVENTS, &events_),
                                     std::pair(HOLDFAST_OUTBOX_QUARANTINE, &quarantine_)}) {
    const int code = mdb_dbi_open(txn.get(), name, 0, handle);
    if (code == MDB_NOTFOUND) {
      return Unexpected(Code::kUnavailable,
                        fmt::format("{}: there is no database `{}` yet; the service makes it with "
                                    "holdfast_outbox_open (include/holdfast/outbox.h)",
                                    data_file_, name));
    }
    if (code != 0) return Unexpected(ErrorOf(fmt::format("open the database `{}`", name), code));
    unsigned flags = 0;
    mdb_dbi_flags(txn.get(), *handle, &flags);
    if ((flags & (MDB_INTEGERKEY | MDB_DUPSORT)) != MDB_INTEGERKEY) {
      return Unexpected(Code::kInvalid,
                        fmt::format("{}: the database `{}` was not made by holdfast_outbox_open",
                                    data_file_, name));
    }
  }
  // So that the handles outlive it.
  if (const int code = mdb_txn_commit(txn.release()); code != 0) {
    return Unexpected(ErrorOf("open the databases", code));
  }
  return {};
}

Result<LmdbSource::Transaction> LmdbSource::Begin(unsigned flags) {
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(environment_.get(), nullptr, flags, &txn);
  if (code == MDB_MAP_RESIZED) {
    code = mdb_env_set_mapsize(environment_.get(), 0);
    if (code == 0) code = mdb_txn_begin(environment_.get(), nullptr, flags, &txn);
  }
  if (code != 0) return Unexpected(ErrorOf("begin a transaction", code));
  return Transaction(txn);
}

Result<void> LmdbSource::CheckInPlace() const {
  // An environment that was put in the place of this one would never be looked at, and may have
  // events that are removed from this one.
  int fd = -1;
  mdb_env_get_fd(environment_.get(), &fd);
  struct stat opened {};
  struct stat named {};
  if (fstat(fd, &opened) != 0 || stat(data_file_.c_str(), &named) != 0 ||
      opened.st_dev != named.st_dev || opened.st_ino != named.st_ino) {
    return Unexpected(
        Code::kUnavailable,
        fmt::format("{}: the file was moved or replaced while it was open", data_file_));
  }
  return {};
}

Result<bool> LmdbSource::MayHaveMore() {
  HF_RETURN_IF_ERROR(CheckInPlace());
  MDB_envinfo info;
  mdb_env_info(environment_.get(), &info);
  return info.me_last_txnid != seen_txn_;
}

Result<std::vector<Row>> LmdbSource::Read(size_t limit, std::span<const std::string> held,
                                          std::span<const RowId> stuck) {
  HF_RETURN_IF_ERROR(CheckInPlace());
  HF_ASSIGN_OR_RETURN(const Transaction txn, Begin(MDB_RDONLY));
  seen_txn_ = mdb_txn_id(txn.get());
  return RowsOf(txn, limit, held, stuck);
}

Result<std::vector<Row>> LmdbSource::RowsOf(const Transaction& txn, size_t limit,
                                            std::span<const std::string> held,
                                            std::span<const RowId> stuck) {
  MDB_cursor* opened = nullptr;
  if (const int code = mdb_cursor_open(txn.get(), events_, &opened); code != 0) {
    return Unexpected(ErrorOf("read events", code));
  }
  const std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)> cursor(opened, &mdb_cursor_close);
  const std::set<std::string_view> passed_over(held.begin(), held.end());
  std::vector<Row> rows;
  size_t bytes = 0;
  while (rows.size() < limit && bytes < kReadBytes) {
    MDB_val key;
    MDB_val value;
    const int code = mdb_cursor_get(cursor.get(), &key, &value, MDB_NEXT);
    if (code == MDB_NOTFOUND) break;
    if (code != 0) return Unexpected(ErrorOf("read events", code));
    Row row = DecodeLmdbEvent(PositionOf(key), FromVal(value), options_.topic);
    if (row.problem.empty() && passed_over.contains(row.route)) continue;
    if (!stuck.empty() && std::ranges::find(stuck, RowId{row.position, row.id}) != stuck.end())
      continue;
    bytes += MemoryOf(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

Result<std::vector<RowId>> LmdbSource::Find(std::span<const int64_t> positions) {
  HF_ASSIGN_OR_RETURN(const Transaction txn, Begin(MDB_RDONLY));
  std::vector<RowId> found;
  for (const int64_t& position : positions) {
    MDB_val key = KeyOf(position);
    MDB_val value;
    const int code = mdb_get(txn.get(), events_, &key, &value);
    if (code == MDB_NOTFOUND) continue;
    if (code != 0) return Unexpected(ErrorOf("look for events", code));
    found.push_back({position, DecodeLmdbEvent(position, FromVal(value)).id});
  }
  HF_RETURN_IF_ERROR(CheckInPlace());
  return found;
}

// Its quarantine refuses nothing: an event that fits into the map fits there, too.
Result<Source::Refusal> LmdbSource::Remove(std::span<const RowId> spooled,
                                           std::span<const Poison> poison) {
  size_t rows = kChunkRows;
  // Parts of it, each whole: what is left is removed when the caller comes again.
  while (!spooled.empty() || !poison.empty()) {
    Result<void> removed = RemoveSome(rows, &spooled, &poison);
    if (removed) continue;
    if (removed.error().code != Code::kFull) return Unexpected(std::move(removed).error());
    if (rows > 1) {
      // Removing needs some pages, too, and gives back more. Perhaps the service has enlarged the
      // map meanwhile.
      rows = 1;
      mdb_env_set_mapsize(environment_.get(), 0);
      continue;
    }
    return Unexpected(Code::kUnavailable, std::move(removed).error().message);
  }
  HF_RETURN_IF_ERROR(CheckInPlace());
  return Refusal();
}

Result<std::optional<std::string_view>> LmdbSource::ValueOf(const Transaction& txn,
                                                            const RowId& row) {
  MDB_val key = KeyOf(row.position);
  MDB_val value;
  const int code = mdb_get(txn.get(), events_, &key, &value);
  if (code == MDB_NOTFOUND) return std::nullopt;
  if (code != 0) return Unexpected(ErrorOf("look for events", code));
  if (DecodeLmdbEvent(row.position, FromVal(value)).id != row.id) return std::nullopt;
  return FromVal(value);
}

Result<void> LmdbSource::RemoveSome(size_t rows, std::span<const RowId>* spooled,
                                    std::span<const Poison>* poison) {
  std::span<const RowId> spooled_left = *spooled;
  std::span<const Poison> poison_left = *poison;
  HF_ASSIGN_OR_RETURN(Transaction txn, Begin(0));
  const auto end = std::chrono::steady_clock::now() + kChunkTime;
  bool changed = false;
  const auto remove = [&](const int64_t& position) -> Result<void> {
    MDB_val key = KeyOf(position);
    const int code = mdb_del(txn.get(), events_, &key, nullptr);
    if (code != 0) return Unexpected(ErrorOf("remove events", code));
    changed = true;
    return {};
  };
  for (size_t i = 0; i < rows && (i == 0 || std::chrono::steady_clock::now() < end); ++i) {
    if (!spooled_left.empty()) {
      const RowId& row = spooled_left.front();
      HF_ASSIGN_OR_RETURN(const auto event, ValueOf(txn, row));
      if (event) HF_RETURN_IF_ERROR(remove(row.position));
      spooled_left = spooled_left.subspan(1);
    } else if (!poison_left.empty()) {
      const Poison& one = poison_left.front();
      HF_ASSIGN_OR_RETURN(const auto event, ValueOf(txn, one.row));
      if (event) {
        std::string kept = EncodeQuarantined(one.reason, *event);
        MDB_val key = KeyOf(one.row.position);
        MDB_val value{kept.size(), kept.data()};
        if (const int code = mdb_put(txn.get(), quarantine_, &key, &value, 0); code != 0) {
          return Unexpected(ErrorOf("put events into the quarantine", code));
        }
        HF_RETURN_IF_ERROR(remove(one.row.position));
      }
      poison_left = poison_left.subspan(1);
    } else {
      break;
    }
  }
  // LMDB commits nothing if nothing changed, and gives the same number to the service's next one.
  if (changed) {
    const uint64_t id = mdb_txn_id(txn.get());
    if (const int code = mdb_txn_commit(txn.release()); code != 0) {
      return Unexpected(ErrorOf("remove events", code));
    }
    if (id == seen_txn_ + 1) seen_txn_ = id;
    if (const int code = mdb_env_sync(environment_.get(), 1); code != 0) {
      return Unexpected(ErrorOf("flush", code));
    }
  }
  *spooled = spooled_left;
  *poison = poison_left;
  return {};
}

Result<Source::Lag> LmdbSource::Measure() {
  mdb_reader_check(environment_.get(), nullptr);
  return Count();
}

Result<Source::Lag> LmdbSource::Count() {
  HF_ASSIGN_OR_RETURN(const Transaction txn, Begin(MDB_RDONLY));
  HF_ASSIGN_OR_RETURN(const std::vector<Row> oldest, RowsOf(txn, 1, {}, {}));
  const auto entries = [&](unsigned database) {
    MDB_stat stat{};
    mdb_stat(txn.get(), database, &stat);
    return std::min<uint64_t>(stat.ms_entries, Lag::kCountMost);
  };
  Lag lag;
  lag.parts.push_back({.owned = true, .rows = entries(events_)});
  if (!oldest.empty()) {
    lag.parts[0].oldest_ms = oldest[0].timestamp_ms;
    lag.parts[0].lowest = oldest[0].position;
  }
  lag.quarantined = entries(quarantine_);
  return lag;
}

Result<Source::Sight> LmdbSource::Look() {
  HF_RETURN_IF_ERROR(FindEnvironment());
  Sight sight;
  HF_ASSIGN_OR_RETURN(sight.taken, SourceLock::IsTaken(LockPath()));
  const auto look = [this](bool locked) -> Result<Lag> {
    if (eaccess(data_file_.c_str(), R_OK | W_OK) != 0 ||
        (locked && eaccess(LockFile().c_str(), R_OK | W_OK) != 0))
      return Unexpected(ErrorOf("open it", errno));
    // Fewer readers than the lock file has room for: it is not made larger.
    HF_RETURN_IF_ERROR(MapEnvironment(MDB_RDONLY | (locked ? 0 : MDB_NOLOCK), 1, 0));
    HF_RETURN_IF_ERROR(OpenDatabases());
    return Count();
  };
  const bool locked = IsThere(LockFile());
  auto lag = look(locked);
  if (!locked && IsThere(LockFile())) {
    environment_.reset();
    lag = look(true);
  }
  Close(/*clean=*/true);
  if (!lag) return Unexpected(std::move(lag).error());
  sight.lag = *std::move(lag);
  return sight;
}

void LmdbSource::Close(bool clean) {
  environment_.reset();
  if (clean) lock_ = SourceLock();
}

}  // namespace holdfast::outbox
