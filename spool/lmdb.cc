#include "spool/lmdb.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

namespace holdfast::spool::lmdb {
namespace {

constexpr unsigned kReadersMax = 1024;
constexpr unsigned kDatabasesMax = 8;
constexpr unsigned kFileMode = 0640;
constexpr size_t kMetaPages = 2;
constexpr size_t kPagesAtOnce = 64;
// More than LMDB needs for so many readers; it takes the rest for further ones.
constexpr off_t kLockBytes = 72 << 10;
constexpr off_t kStatBlockBytes = 512;

MDB_val ToVal(std::string_view bytes) {
  return {bytes.size(), const_cast<char*>(bytes.data())};  // LMDB does not write through it.
}
std::string_view FromVal(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}

base::Error LmdbError(std::string_view path, std::string_view what, int code) {
  std::string message(path);
  message.append(": ").append(what);
  if (code > 0) return base::ErrnoError(message, code);
  message.append(": ").append(mdb_strerror(code));
  switch (code) {
    case MDB_MAP_FULL:
      return {base::Code::kFull, std::move(message)};
    case MDB_READERS_FULL:
      message.append(" (too many leases are held at once)");
      return {base::Code::kUnavailable, std::move(message)};
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return {base::Code::kCorrupt, std::move(message)};
    default:
      return {base::Code::kIo, std::move(message)};
  }
}

bool IsUnsupported(int error) { return error == EOPNOTSUPP || error == ENOSYS; }

// In a file that is there. It keeps its size and what it holds, since others may have mapped it.
int AllocateLockIn(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return errno;
  const off_t bytes = info.st_size == 0 ? kLockBytes : info.st_size;
  if (info.st_blocks * kStatBlockBytes >= bytes || fallocate(fd, 0, 0, bytes) == 0) return 0;
  // One of before has blocks where LMDB wrote, and a spool has to start on a full disk, too.
  if ((errno == ENOSPC || errno == EDQUOT) && info.st_size != 0 && info.st_blocks != 0) return 0;
  return IsUnsupported(errno) ? 0 : errno;
}

// In a new one, which nobody else sees yet.
int FillLock(int fd) {
  if (fallocate(fd, 0, 0, kLockBytes) == 0) return 0;
  if (!IsUnsupported(errno)) return errno;
  const std::string zeros(kLockBytes, '\0');
  errno = ENOSPC;  // What a short write means.
  return pwrite(fd, zeros.data(), zeros.size(), 0) == std::ssize(zeros) ? 0 : errno;
}

base::Result<void> MakeLock(const std::string& lock) {
  const std::string draft = lock + ".new";
  (void)unlink(draft.c_str());  // What a crash left may have got its name, and be in use.
  const int fd = open(draft.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode);
  if (fd < 0) return base::Unexpected(base::ErrnoError(draft + ": cannot open", errno));
  int error = FillLock(fd);
  close(fd);
  // Others may have made one meanwhile. Where there are no links LMDB makes it.
  if (error == 0 && link(draft.c_str(), lock.c_str()) != 0 && errno != EEXIST && errno != EPERM &&
      !IsUnsupported(errno))
    error = errno;
  (void)unlink(draft.c_str());
  if (error != 0) return base::Unexpected(base::ErrnoError(lock + ": cannot allocate", error));
  return {};
}

}  // namespace

base::Result<void> Environment::AllocateLock(const std::string& path) {
  const std::string lock = path + "-lock";
  const int fd = open(lock.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return MakeLock(lock);
  if (fd < 0) return base::Unexpected(base::ErrnoError(lock + ": cannot open", errno));
  const int error = AllocateLockIn(fd);
  close(fd);
  if (error != 0) return base::Unexpected(base::ErrnoError(lock + ": cannot allocate", error));
  return {};
}

base::Result<std::unique_ptr<Environment>> Environment::Open(std::string path, Access access,
                                                             uint64_t map_bytes) {
  if (access == Access::kWrite) HF_RETURN_IF_ERROR(AllocateLock(path));
  MDB_env* env = nullptr;
  if (const int rc = mdb_env_create(&env); rc != 0)
    return base::Unexpected(LmdbError(path, "cannot make an environment", rc));
  std::unique_ptr<Environment> environment(new Environment(env, std::move(path)));
  mdb_env_set_maxdbs(env, kDatabasesMax);
  mdb_env_set_maxreaders(env, kReadersMax);
  if (map_bytes != 0) mdb_env_set_mapsize(env, map_bytes);
  unsigned flags = MDB_NOSUBDIR | MDB_NOTLS;
  const bool reads = access == Access::kRead || access == Access::kObserve;
  flags |= reads ? MDB_RDONLY : MDB_NOMETASYNC;
  if (access == Access::kWrite || access == Access::kBuild) flags |= MDB_NOSYNC;
  if (access != Access::kWrite && access != Access::kObserve) flags |= MDB_NOLOCK;
  if (const int rc = mdb_env_open(env, environment->path_.c_str(), flags, kFileMode); rc != 0)
    return base::Unexpected(LmdbError(environment->path_, "cannot open", rc));
  // Of processes that were killed, if another one kept the lock file in use meanwhile.
  if (access == Access::kWrite) mdb_reader_check(env, nullptr);
  MDB_stat stat;
  MDB_envinfo info;
  mdb_env_stat(env, &stat);
  mdb_env_info(env, &info);
  environment->page_bytes_ = stat.ms_psize;
  environment->map_pages_ = info.me_mapsize / stat.ms_psize;
  return environment;
}

Environment::~Environment() { mdb_env_close(env_); }

base::Result<void> Environment::Sync() {
  if (const int rc = mdb_env_sync(env_, 1); rc != 0)
    return base::Unexpected(LmdbError(path_, "cannot flush to the disk", rc));
  return {};
}

base::Result<void> Environment::SyncInherited(std::span<const uint64_t> pages) {
  HF_RETURN_IF_ERROR(WriteAgain(0, kMetaPages));
  for (size_t i = 0; i < pages.size();) {
    size_t count = 1;
    while (i + count < pages.size() && count < kPagesAtOnce && pages[i + count] == pages[i] + count)
      ++count;
    HF_RETURN_IF_ERROR(WriteAgain(pages[i], count));
    i += count;
  }
  return Sync();
}

base::Result<void> Environment::WriteAgain(uint64_t first_page, size_t count) {
  std::string bytes(count * page_bytes_, '\0');
  const int fd = file_descriptor();
  const auto at = static_cast<off_t>(first_page * page_bytes_);
  ssize_t moved = pread(fd, bytes.data(), bytes.size(), at);
  if (moved == static_cast<ssize_t>(bytes.size()))
    moved = pwrite(fd, bytes.data(), bytes.size(), at);
  if (moved != static_cast<ssize_t>(bytes.size()))
    return base::Unexpected(
        LmdbError(path_, "cannot write its newest pages again", moved < 0 ? errno : EIO));
  return {};
}

uint64_t Environment::used_pages() const {
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  return info.me_last_pgno + 1;
}

int Environment::file_descriptor() const {
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  return fd;
}

Transaction& Transaction::operator=(Transaction&& other) noexcept {
  std::swap(environment_, other.environment_);
  std::swap(txn_, other.txn_);
  return *this;
}

Transaction::~Transaction() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

uint64_t Transaction::id() const { return mdb_txn_id(txn_); }

base::Error Transaction::ErrorOf(std::string_view what, int code) const {
  return LmdbError(environment_->path(), what, code);
}

base::Result<std::optional<std::string_view>> Transaction::Get(Database database,
                                                               std::string_view key) const {
  MDB_val key_val = ToVal(key);
  MDB_val value;
  const int rc = mdb_get(txn_, database.handle, &key_val, &value);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  if (rc != 0) return base::Unexpected(ErrorOf("cannot read", rc));
  return FromVal(value);
}

base::Result<ReadTransaction> ReadTransaction::Begin(const Environment& environment) {
  MDB_txn* txn = nullptr;
  if (const int rc = mdb_txn_begin(environment.get(), nullptr, MDB_RDONLY, &txn); rc != 0)
    return base::Unexpected(LmdbError(environment.path(), "cannot begin to read", rc));
  return ReadTransaction(environment, txn);
}

base::Result<Database> ReadTransaction::Open(const char* name) {
  Database database;
  const int rc = mdb_dbi_open(txn_, name, 0, &database.handle);
  if (rc == MDB_NOTFOUND)
    return base::Unexpected(base::Code::kNotFound,
                            environment_->path() + ": has no database " + name);
  if (rc != 0) return base::Unexpected(ErrorOf("cannot open a database", rc));
  return database;
}

// LMDB closes handles that were opened in a transaction unless that commits, even a reading one.
base::Result<void> ReadTransaction::KeepHandles() {
  if (const int rc = mdb_txn_commit(std::exchange(txn_, nullptr)); rc != 0)
    return base::Unexpected(ErrorOf("cannot keep its databases open", rc));
  return {};
}

base::Result<WriteTransaction> WriteTransaction::Begin(const Environment& environment) {
  MDB_txn* txn = nullptr;
  if (const int rc = mdb_txn_begin(environment.get(), nullptr, 0, &txn); rc != 0)
    return base::Unexpected(LmdbError(environment.path(), "cannot begin to write", rc));
  return WriteTransaction(environment, txn);
}

base::Result<Database> WriteTransaction::Create(const char* name, Keys keys) {
  Database database;
  const unsigned flags = MDB_CREATE | (keys == Keys::kIntegers ? MDB_INTEGERKEY : 0);
  if (const int rc = mdb_dbi_open(txn_, name, flags, &database.handle); rc != 0)
    return base::Unexpected(ErrorOf("cannot make a database", rc));
  return database;
}

base::Result<void> WriteTransaction::Put(Database database, std::string_view key,
                                         std::string_view value) {
  MDB_val key_val = ToVal(key);
  MDB_val value_val = ToVal(value);
  if (const int rc = mdb_put(txn_, database.handle, &key_val, &value_val, 0); rc != 0)
    return base::Unexpected(ErrorOf("cannot write", rc));
  return {};
}

base::Result<std::span<char>> WriteTransaction::Append(Database database, std::string_view key,
                                                       size_t size) {
  MDB_val key_val = ToVal(key);
  MDB_val value{size, nullptr};
  if (const int rc = mdb_put(txn_, database.handle, &key_val, &value, MDB_APPEND | MDB_RESERVE);
      rc != 0)
    return base::Unexpected(ErrorOf("cannot append", rc));
  return std::span<char>(static_cast<char*>(value.mv_data), value.mv_size);
}

base::Result<void> WriteTransaction::Commit() {
  // LMDB frees the transaction either way.
  if (const int rc = mdb_txn_commit(std::exchange(txn_, nullptr)); rc != 0)
    return base::Unexpected(ErrorOf("cannot commit", rc));
  return {};
}

base::Result<void> WriteTransaction::CommitOrdered() {
  // LMDB looks at this flag when it commits; who reads looks at others.
  MDB_env* const env = environment_->get();
  unsigned flags = 0;
  mdb_env_get_flags(env, &flags);
  mdb_env_set_flags(env, MDB_NOSYNC, 0);
  base::Result<void> committed = Commit();
  mdb_env_set_flags(env, flags & MDB_NOSYNC, 1);
  return committed;
}

base::Result<Cursor> Cursor::Open(const ReadTransaction& transaction, Database database) {
  MDB_cursor* cursor = nullptr;
  if (const int rc = mdb_cursor_open(transaction.get(), database.handle, &cursor); rc != 0)
    return base::Unexpected(transaction.ErrorOf("cannot open a cursor", rc));
  return Cursor(transaction, cursor);
}

Cursor::~Cursor() {
  if (cursor_ != nullptr) mdb_cursor_close(cursor_);
}

base::Result<bool> Cursor::First() { return Move({}, MDB_FIRST); }
base::Result<bool> Cursor::Last() { return Move({}, MDB_LAST); }
base::Result<bool> Cursor::Next() { return Move({}, MDB_NEXT); }
base::Result<bool> Cursor::Previous() { return Move({}, MDB_PREV); }
base::Result<bool> Cursor::SeekAtOrAfter(std::string_view key) { return Move(key, MDB_SET_RANGE); }

base::Result<bool> Cursor::Move(std::string_view key, int operation) {
  MDB_val key_val = ToVal(key);
  MDB_val value{};
  const int rc = mdb_cursor_get(cursor_, &key_val, &value, static_cast<MDB_cursor_op>(operation));
  if (rc == MDB_NOTFOUND) return false;
  if (rc != 0) return base::Unexpected(transaction_->ErrorOf("cannot read", rc));
  key_ = FromVal(key_val);
  value_ = FromVal(value);
  return true;
}

}  // namespace holdfast::spool::lmdb
