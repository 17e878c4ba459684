#include "spool/segment_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "spool/mapped_file.h"

namespace holdfast::spool {
namespace {

// Of a file that is removed again at once; if a crash prevents that, it counts as unfinished.
constexpr char kScratchSuffix[] = ".pages.new";

constexpr std::string_view kHeaderKey = "segment";
constexpr std::string_view kSealedKey = "sealed";

constexpr size_t kPieceBytes = size_t{256} << 10;

// Pages that one transaction may take beside the value itself: copies of branch and leaf pages, the
// list of free pages, and a new page or two as the trees grow.
constexpr uint64_t kPagesPerCommit = 24;
constexpr uint64_t kOverflowHeaderBytes = 16;
constexpr uint64_t kContiguousFrameBytes = uint64_t{64} << 10;
constexpr int kObserveAttempts = 20;
// Beside checkpoint and frames: databases, trees, slack.
constexpr uint64_t kOverheadBytes = uint64_t{256} << 10;
constexpr size_t kZerosBytes = size_t{256} << 10;
constexpr uint32_t kSmallFramesMax = 16;  // In a row, before space counts more than time.

// A piece of an encrypted checkpoint is bound to the segment; it has a salt of its own.
std::string SealPiece(SegmentKey& key, const Origin& origin, uint32_t piece,
                      std::string_view plain) {
  const Salt salt = NewSalt();
  std::string sealed(salt.begin(), salt.end());
  sealed.resize(salt.size() + plain.size() + kSealBytes);
  key.Seal(salt, piece, std::to_string(origin.segment), plain,
           std::span(sealed).subspan(salt.size()));
  return sealed;
}

std::vector<std::string> EncodeEnds(const Origin& origin, const State& state) {
  std::vector<std::string> blocks;
  std::vector<StreamEnd> ends;
  for (size_t i = 0; i < state.streams().size(); ++i) {
    ends.push_back({state.streams()[i].end, state.streams()[i].max_timestamp_ms});
    if (ends.size() < kEndsPerBlock && i + 1 < state.streams().size()) continue;
    blocks.push_back(EncodeEnds(origin, blocks.size(), ends));
    ends.clear();
  }
  return blocks;
}

base::Result<void> AppendAll(lmdb::WriteTransaction& transaction, lmdb::Database database,
                             uint64_t first_key, const std::vector<std::string>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    HF_ASSIGN_OR_RETURN(
        const std::span<char> out,
        transaction.Append(database, lmdb::IntegerKey(first_key + i).view(), values[i].size()));
    std::memcpy(out.data(), values[i].data(), values[i].size());
  }
  return {};
}

// An empty environment with all databases, not flushed.
base::Result<std::unique_ptr<lmdb::Environment>> CreateEmpty(const std::string& path,
                                                             uint64_t bytes, Layout layout) {
  HF_ASSIGN_OR_RETURN(auto environment,
                      lmdb::Environment::Open(path, lmdb::Access::kCreate, bytes));
  HF_ASSIGN_OR_RETURN(lmdb::WriteTransaction transaction,
                      lmdb::WriteTransaction::Begin(*environment));
  using Keys = lmdb::WriteTransaction::Keys;
  HF_RETURN_IF_ERROR(transaction.Create("meta", Keys::kBytes));
  HF_RETURN_IF_ERROR(transaction.Create("state", Keys::kIntegers));
  HF_RETURN_IF_ERROR(transaction.Create("ends", Keys::kIntegers));
  HF_RETURN_IF_ERROR(transaction.Create("frames", Keys::kIntegers));
  HF_RETURN_IF_ERROR(transaction.Create("streams", Keys::kBytes));
  if (layout == Layout::kByStream) HF_RETURN_IF_ERROR(transaction.Create("runs", Keys::kIntegers));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return environment;
}

// What CreateEmpty writes: meta pages and the tree of databases.
base::Result<std::string> EmptyPages(const std::string& scratch, uint64_t bytes) {
  base::Result<std::string> pages = [&]() -> base::Result<std::string> {
    HF_ASSIGN_OR_RETURN(const auto environment, CreateEmpty(scratch, bytes, Layout::kByCommit));
    std::string read(environment->used_pages() * environment->page_bytes(), '\0');
    if (pread(environment->file_descriptor(), read.data(), read.size(), 0) !=
        static_cast<ssize_t>(read.size()))
      return base::Unexpected(base::ErrnoError(scratch + ": cannot read", errno));
    return read;
  }();
  if (unlink(scratch.c_str()) != 0 && pages)
    return base::Unexpected(base::ErrnoError(scratch + ": cannot remove", errno));
  return pages;
}

base::Error NewestFailed() { return {base::Code::kCorrupt, "its newest commit failed"}; }

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace

base::Result<bool> SegmentFile::Recycle(const std::string& path, uint64_t bytes) {
  const FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  if (static_cast<uint64_t>(info.st_size) != bytes) return false;
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;
  HF_ASSIGN_OR_RETURN(const std::string pages, EmptyPages(path + kScratchSuffix, bytes));
  // Until this is whole, the file has no place in the log; so it may tear.
  errno = EIO;  // What a short write means.
  if (pwrite(file.get(), pages.data(), pages.size(), 0) != static_cast<ssize_t>(pages.size()) ||
      fdatasync(file.get()) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot write", errno));
  return true;
}

base::Result<std::shared_ptr<SegmentFile>> SegmentFile::Build(const std::string& path,
                                                              const Origin& origin, uint64_t bytes,
                                                              Layout layout) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return base::Unexpected(base::ErrnoError(path + ": cannot remove", errno));
  HF_RETURN_IF_ERROR(CreateEmpty(path, bytes, layout));
  return Open(path, origin, lmdb::Access::kBuild, {}, nullptr);
}

base::Result<void> SegmentFile::Create(const std::string& path, uint64_t bytes) {
  HF_ASSIGN_OR_RETURN(const auto environment, CreateEmpty(path, bytes, Layout::kByCommit));
  // With its blocks taken now, a segment cannot run into a full disk later. Where the file system
  // cannot do that, the file grows as it is written.
  if (fallocate(environment->file_descriptor(), 0, 0, static_cast<off_t>(bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS)
    return base::Unexpected(base::ErrnoError(
        path + ": cannot allocate " + std::to_string(bytes >> 20) + " MiB", errno));
  return environment->Sync();
}

base::Result<bool> SegmentFile::WriteBlocks(const std::string& path,
                                            const std::function<bool()>& go_on) {
  HF_ASSIGN_OR_RETURN(auto environment, lmdb::Environment::Open(path, lmdb::Access::kRead, 0));
  const uint64_t begin = environment->used_pages() * environment->page_bytes();
  const uint64_t end = environment->map_pages() * environment->page_bytes();
  environment.reset();
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  const std::string zeros(kZerosBytes, '\0');
  for (uint64_t at = begin; at < end; at += zeros.size()) {
    if (!go_on()) return false;
    const auto size = static_cast<size_t>(std::min<uint64_t>(zeros.size(), end - at));
    // Flushed piece by piece: who shares the disk waits for one of them at most.
    errno = EIO;  // What a short write means.
    if (pwrite(file.get(), zeros.data(), size, static_cast<off_t>(at)) !=
            static_cast<ssize_t>(size) ||
        fdatasync(file.get()) != 0)
      return base::Unexpected(base::ErrnoError(path + ": cannot write", errno));
  }
  return true;
}

base::Result<std::shared_ptr<SegmentFile>> SegmentFile::Open(
    const std::string& path, const Origin& origin, lmdb::Access access, const KeyRing& keys,
    DamageObserver* observer, CommitNumber end) {
  std::shared_ptr<SegmentFile> file(new SegmentFile(path, origin, observer, end));
  base::Result<void> opened = file->OpenEnvironment(access);
  if (opened) opened = file->ReadHeader();
  if (!opened && opened.error().code != base::Code::kCorrupt)
    return base::Unexpected(std::move(opened).error());
  if (!opened) HF_RETURN_IF_ERROR(file->OpenSalvage(opened.error()));
  if (file->header_ && !file->header_->data_key.empty()) {
    auto key = SegmentKey::Unwrap(keys, file->header_->data_key);
    if (!key) return base::Unexpected(file->Within(key.error()));
    file->key_ = *std::move(key);
  }
  return file;
}

base::Result<void> SegmentFile::OpenEnvironment(lmdb::Access access) {
  if (access == lmdb::Access::kObserve) {
    // Its pages change; those that a transaction sees do not.
    auto environment = lmdb::Environment::Open(path_, access, 0);
    if (!environment && environment.error().code == base::Code::kCorrupt) {
      HF_ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path_));
      const auto checked = CheckPages(map.bytes());
      return NewestNotWhole(checked ? environment.error() : checked.error());
    }
    HF_ASSIGN_OR_RETURN(environment_, std::move(environment));
    HF_RETURN_IF_ERROR(CheckObserved());
  } else {
    HF_ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path_));
    const auto checked = CheckPages(map.bytes());
    if (!checked) return NewestNotWhole(checked.error());
    if (*checked > end_.value()) return NewestNotWhole(NewestFailed());
    HF_ASSIGN_OR_RETURN(environment_, lmdb::Environment::Open(path_, access, 0));
  }
  return OpenDatabases();
}

base::Result<void> SegmentFile::CheckObserved() {
  HF_ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path_));
  for (int attempt = 1;; ++attempt) {
    HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
    const auto checked = CheckPages(map.bytes(), transaction.id());
    if (checked && *checked > end_.value()) return NewestNotWhole(NewestFailed());
    if (checked) return {};
    // A writer may be in the middle of a meta page.
    if (attempt == kObserveAttempts) return NewestNotWhole(checked.error());
  }
}

tl::unexpected<base::Error> SegmentFile::NewestNotWhole(base::Error error) {
  if (const auto map = MappedFile::Open(path_); map)
    before_newest_ = FramesBeforeNewestCommit(map->bytes());
  return base::Unexpected(Within(std::move(error)));
}

base::Result<void> SegmentFile::OpenSalvage(const base::Error& damage) {
  sealed_ = false;
  header_.reset();
  environment_.reset();
  torn_ = before_newest_.has_value();
  HF_ASSIGN_OR_RETURN(salvage_,
                      Salvage::Scan(path_, origin_, std::exchange(before_newest_, std::nullopt),
                                    /*whole=*/end_ == kAllCommits));
  header_ = salvage_->header();
  if (torn_) return {};
  Report(std::nullopt,
         {damage.code, damage.message + "; what is intact is read without LMDB: " +
                           std::to_string(salvage_->frames().size()) + " commits from " +
                           std::to_string(header_->first_commit.value()) + " on"});
  return {};
}

base::Result<std::shared_ptr<SegmentFile>> SegmentFile::Observe(const std::string& path,
                                                                const Origin& origin,
                                                                const KeyRing& keys,
                                                                DamageObserver* observer,
                                                                CommitNumber end) {
  const auto gone = [&] {
    return base::Unexpected(base::Code::kNotFound, path + ": the segment was retired just now");
  };
  const auto hold = std::make_shared<FileDescriptor>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (hold->get() < 0) {
    if (errno == ENOENT) return gone();
    return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  }
  if (flock(hold->get(), LOCK_SH | LOCK_NB) != 0) return gone();
  const auto still_there = [&] {
    struct stat held {};
    struct stat named {};
    return fstat(hold->get(), &held) == 0 && stat(path.c_str(), &named) == 0 &&
           held.st_ino == named.st_ino;
  };
  if (!still_there()) return gone();
  // A writer makes the lock file before it writes. Without one nobody has written since the spool
  // was imported, or the segment written anew; and where there is none we must not make one.
  const std::string lock_path = path + "-lock";
  for (;;) {
    const bool locked = access(lock_path.c_str(), F_OK) == 0;
    auto file = Open(path, origin, locked ? lmdb::Access::kObserve : lmdb::Access::kRead, keys,
                     observer, end);
    if (!still_there()) {
      if (locked) (void)unlink(lock_path.c_str());  // LMDB may have made it anew.
      return gone();
    }
    if (!file) return file;
    if (!locked && access(lock_path.c_str(), F_OK) == 0) continue;
    (*file)->hold_ = hold;
    return file;
  }
}

base::Result<void> SegmentFile::OpenDatabases() {
  HF_ASSIGN_OR_RETURN(auto transaction, BeginRead());
  const std::pair<const char*, lmdb::Database*> databases[] = {{"meta", &meta_},
                                                               {"state", &state_},
                                                               {"ends", &ends_},
                                                               {"frames", &frames_},
                                                               {"streams", &streams_}};
  for (const auto& [name, database] : databases) {
    HF_ASSIGN_OR_RETURN(*database, transaction.Open(name));
  }
  auto runs = transaction.Open("runs");
  if (!runs && runs.error().code != base::Code::kNotFound)
    return base::Unexpected(std::move(runs).error());
  if (runs) runs_ = *runs;
  return transaction.KeepHandles();
}

base::Result<void> SegmentFile::ReadHeader() {
  HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
  std::optional<std::string_view> value;
  HF_ASSIGN_OR_RETURN(auto records, lmdb::Cursor::Open(transaction, meta_));
  HF_ASSIGN_OR_RETURN(bool more, records.First());
  while (more) {
    if (records.key() == kHeaderKey) {
      value = records.value();
    } else if (records.key() == kSealedKey) {
      sealed_ = true;
    } else {
      return base::Unexpected(Within({base::Code::kCorrupt, "an unknown record in meta"}));
    }
    HF_ASSIGN_OR_RETURN(more, records.Next());
  }
  if (!value) return {};
  base::Result<SegmentHeader> header = DecodeHeader(*value);
  if (!header) return base::Unexpected(Within(header.error()));
  if (header->origin.spool != origin_.spool || header->origin.segment != origin_.segment)
    return base::Unexpected(
        Within({base::Code::kInvalid, "belongs to another spool or place; move it away"}));
  if ((header->layout == Layout::kByStream) != runs_.has_value())
    return base::Unexpected(
        Within({base::Code::kCorrupt, "its header and its databases do not agree"}));
  // Keys of frames have no gaps, see CheckPages; so with the first one all are as they should be.
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, frames_));
  HF_ASSIGN_OR_RETURN(const bool any, cursor.First());
  if (any && base::LoadLittle<uint64_t>(cursor.key().data()) != header->first_commit.value())
    return NewestNotWhole({base::Code::kCorrupt, "its frames do not begin with its first commit"});
  if (any) {
    HF_RETURN_IF_ERROR(cursor.Last());
    const base::Result<FrameView> last = FrameView::Parse(WholePages(cursor.value()));
    last_checksum_ = last ? last->checksum() : 0;
  }
  if (const auto newest = CheckNewest(transaction); !newest) return NewestNotWhole(newest.error());
  header_ = *std::move(header);
  return {};
}

// Whether the pages that the newest commit wrote hold frames as they should. What else is in them
// has been checked (spool/page_check.h). A frame that is no better where the commit before had it
// is damaged, not torn, and costs only itself.
base::Result<void> SegmentFile::CheckNewest(const lmdb::ReadTransaction& transaction) const {
  if (sealed_ || runs_) return {};  // These were flushed before anything led to them.
  HF_ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path_));
  const FramePlaces written = FramesWrittenByCommit(map.bytes(), transaction.id());
  const bool entries = end_ == kAllCommits;  // Of one that counts, damage to one costs no other.
  std::optional<FramePlaces> before;
  for (const auto& [number, offset] : written) {
    const base::Result<void> whole = VerifyAt(map.bytes(), offset, number, entries);
    if (whole) continue;
    if (!before) before = FramesBeforeNewestCommit(map.bytes()).value_or(FramePlaces());
    const auto old = before->find(number);
    if (old != before->end() && !VerifyAt(map.bytes(), old->second, number, entries)) continue;
    return base::Unexpected(base::Error(whole.error()).Within("commit " + std::to_string(number)));
  }
  return {};
}

base::Result<void> SegmentFile::VerifyAt(std::string_view file, uint64_t offset, uint64_t commit,
                                         bool entries) const {
  HF_ASSIGN_OR_RETURN(const FrameView frame, FrameView::Parse(file.substr(offset)));
  HF_RETURN_IF_ERROR(frame.Verify(seed_, CommitNumber(commit)));
  return entries ? frame.VerifyEntries() : base::Result<void>{};
}

base::Result<void> SegmentFile::Begin(CommitNumber first_commit, const State& state,
                                      const std::string& segments,
                                      std::shared_ptr<SegmentKey> key) {
  HF_CHECK(!header_);
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  std::vector<std::string> pieces = state.Checkpoint(kPieceBytes);
  pieces.back() += segments;
  SegmentHeader header{.origin = origin_,
                       .layout = runs_ ? Layout::kByStream : Layout::kByCommit,
                       .first_commit = first_commit,
                       .state_pieces = static_cast<uint32_t>(pieces.size()),
                       .streams = static_cast<uint32_t>(state.streams().size())};
  if (key) header.data_key = key->wrapped();
  // A value of half a page and more has pages of its own.
  const size_t bytes_min = environment_->page_bytes() / 2;
  for (uint32_t i = 0; i < pieces.size(); ++i) {
    if (key) pieces[i] = SealPiece(*key, origin_, i, pieces[i]);
    pieces[i] = EncodePiece({.header = header, .index = i, .changes = pieces[i]}, bytes_min);
  }
  HF_RETURN_IF_ERROR(AppendAll(transaction, state_, 0, pieces));
  HF_RETURN_IF_ERROR(AppendAll(transaction, ends_, 0, EncodeEnds(origin_, state)));
  HF_RETURN_IF_ERROR(transaction.Put(meta_, kHeaderKey, EncodeHeader(header)));
  // Again, with the pages of the other databases between, so that no two copies are neighbours.
  HF_RETURN_IF_ERROR(AppendAll(transaction, state_, pieces.size(), pieces));
  HF_RETURN_IF_ERROR(transaction.CommitOrdered());
  HF_RETURN_IF_ERROR(Sync());
  header_ = std::move(header);
  key_ = std::move(key);
  return {};
}

// The checkpoint is there twice; the ends of its streams take less than a third copy would.
uint64_t SegmentFile::BytesToBegin(const State& state, uint64_t segments_bytes) {
  return 3 * state.CheckpointBytes() + 2 * segments_bytes + kOverheadBytes;
}

base::Result<void> SegmentFile::Append(FrameDraft draft) {
  draft.seed = seed_;
  draft.previous = last_checksum_;
  draft.key = key_.get();
  const uint64_t bytes = draft.FrameBytes();
  HF_RETURN_IF_ERROR(KeepContiguous(bytes));
  HF_RETURN_IF_ERROR(AppendValue(frames_, draft.commit.value(), bytes, [&](std::span<char> out) {
    last_checksum_ = EncodeFrame(draft, out);
  }));
  const uint64_t frame = draft.commit.value() - header_->first_commit.value();
  if (frame < written_from_) written_from_ = static_cast<uint32_t>(frame);
  const base::MutexLock lock(mutex_);
  verified_.resize(frame + 1);
  verified_.back() = true;  // We wrote it.
  return {};
}

base::Result<void> SegmentFile::AppendTable(TableDraft draft) {
  draft.seed = seed_;
  draft.previous = last_checksum_;
  draft.key = key_.get();
  return AppendValue(frames_, draft.commit.value(), draft.TableBytes(),
                     [&](std::span<char> out) { last_checksum_ = EncodeTable(draft, out); });
}

base::Result<void> SegmentFile::AppendRun(uint32_t position, std::string_view bytes) {
  // A value of half a page and more has pages of its own.
  const uint64_t size =
      std::max<uint64_t>(kRunHeaderBytes + bytes.size(), environment_->page_bytes() / 2);
  return AppendValue(*runs_, position, size, [&](std::span<char> out) {
    const size_t used = kRunHeaderBytes + bytes.size();
    EncodeRun(seed_, {.position = position, .bytes = bytes}, out.first(used));
    std::fill(out.begin() + static_cast<ptrdiff_t>(used), out.end(), '\0');
  });
}

base::Result<void> SegmentFile::AppendValue(lmdb::Database database, uint64_t key, uint64_t bytes,
                                            const std::function<void(std::span<char>)>& fill) {
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  HF_ASSIGN_OR_RETURN(const std::span<char> out,
                      transaction.Append(database, lmdb::IntegerKey(key).view(), bytes));
  fill(out);
  return transaction.Commit();
}

base::Result<void> SegmentFile::AppendLost(CommitNumber commit) {
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  HF_RETURN_IF_ERROR(transaction.Append(frames_, lmdb::IntegerKey(commit.value()).view(), 0));
  last_checksum_ = 0;
  return transaction.Commit();
}

// As long as a reader may look at the oldest state, LMDB reuses no page: all that a commit writes
// lies in one piece at the end of what is used, and is one request to the disk instead of four or
// five. The tree's old pages stay unused, some 16 KiB for a commit; too much for a small one.
base::Result<void> SegmentFile::KeepContiguous(uint64_t frame_bytes) {
  small_frames_ = frame_bytes < kContiguousFrameBytes ? small_frames_ + 1 : 0;
  if (small_frames_ >= kSmallFramesMax) {
    oldest_reader_.reset();
  } else if (!oldest_reader_ && small_frames_ == 0) {
    HF_ASSIGN_OR_RETURN(oldest_reader_, BeginRead());
  }
  return {};
}

base::Result<void> SegmentFile::Sync() { return environment_->Sync(); }

base::Result<void> SegmentFile::SyncInherited() {
  if (!salvage_) {
    HF_ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path_));
    return environment_->SyncInherited(PagesOfNewestCommit(map.bytes()));
  }
  const FileDescriptor file(open(path_.c_str(), (torn_ ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (file.get() >= 0 && torn_ && !salvage_->frames().empty()) {
    // That it is seen whole does not say that the disk has it, see Environment::SyncInherited.
    const std::string frame(salvage_->frames().rbegin()->second);
    errno = EIO;  // What a short write means.
    if (pwrite(file.get(), frame.data(), frame.size(),
               salvage_->OffsetOf(salvage_->frames().rbegin()->second)) !=
        static_cast<ssize_t>(frame.size()))
      return base::Unexpected(
          base::ErrnoError(path_ + ": cannot write its newest frame again", errno));
  }
  if (file.get() < 0 || fdatasync(file.get()) != 0)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot flush to the disk", errno));
  return {};
}

base::Result<void> SegmentFile::Seal(const MemoryIndex& index) {
  oldest_reader_.reset();
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  const auto write = [&](StreamId stream, const std::vector<Place>& places) -> base::Result<void> {
    for (size_t i = 0; i < places.size(); i += kPlacesPerBlock) {
      const std::string block =
          PackBlock(seed_, stream, &places[i], std::min(kPlacesPerBlock, places.size() - i));
      HF_ASSIGN_OR_RETURN(
          const std::span<char> out,
          transaction.Append(streams_, BlockKey(stream, places[i].base_offset), block.size()));
      std::memcpy(out.data(), block.data(), block.size());
    }
    return {};
  };
  HF_RETURN_IF_ERROR(index.ForEach(write));
  HF_RETURN_IF_ERROR(transaction.Put(meta_, kSealedKey, std::to_string(index.entries())));
  HF_RETURN_IF_ERROR(transaction.CommitOrdered());
  return Sync();
}

void SegmentFile::Prefetch(uint64_t begin, uint64_t bytes) const {
  if (!environment_) return;
  (void)posix_fadvise(environment_->file_descriptor(), static_cast<off_t>(begin),
                      static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
}

base::Result<void> SegmentFile::CutOff() {
  if (ftruncate(environment_->file_descriptor(), static_cast<off_t>(used_bytes())) != 0)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot cut off", errno));
  return Sync();
}

// Blocks are at most some ten bytes a place, and a page holds several; streams with few entries pay
// for key and node.
uint64_t SegmentFile::IndexBytes(uint64_t entries, uint64_t streams) {
  return entries * 16 + streams * 64;
}

uint64_t SegmentFile::RoomBytes(const MemoryIndex& index) const {
  const uint64_t page = environment_->page_bytes();
  const uint64_t index_bytes = IndexBytes(index.entries(), index.streams());
  const uint64_t reserved = environment_->used_pages() + index_bytes / page + 2 * kPagesPerCommit;
  if (reserved >= environment_->map_pages()) return 0;
  return (environment_->map_pages() - reserved) * page - kOverflowHeaderBytes;
}

uint64_t SegmentFile::used_bytes() const {
  return environment_->used_pages() * environment_->page_bytes();
}

uint64_t SegmentFile::map_bytes() const {
  return environment_->map_pages() * environment_->page_bytes();
}

}  // namespace holdfast::spool
