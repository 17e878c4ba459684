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

namespace holdfast::spool {
namespace {

// Of a file that is removed again at once; if a crash prevents that, it counts as unfinished.
constexpr char kScratchSuffix[] = ".pages.new";

constexpr std::string_view kHeaderKey = "segment";
constexpr std::string_view kSealedKey = "sealed";
constexpr std::string_view kDataKeyKey = "key";

// The header's value.
constexpr size_t kHeaderVersion = 0;
constexpr size_t kHeaderNumber = 8;
constexpr size_t kHeaderSpool = 16;
constexpr size_t kHeaderFirst = 32;
constexpr size_t kHeaderPieces = 40;
constexpr size_t kHeaderStreams = 44;
constexpr size_t kHeaderChecksum = 48;
constexpr size_t kHeaderBytes = 52;

constexpr size_t kPieceBytes = size_t{256} << 10;
constexpr size_t kChecksumBytes = sizeof(uint32_t);
constexpr size_t kEndsPerBlock = 100;
constexpr size_t kEndBytes = 2 * sizeof(int64_t);

// Pages that one transaction may take beside the value itself: copies of branch and leaf pages, the
// list of free pages, and a new page or two as the trees grow.
constexpr uint64_t kPagesPerCommit = 24;
constexpr uint64_t kOverflowHeaderBytes = 16;
constexpr uint64_t kContiguousFrameBytes = uint64_t{64} << 10;
constexpr uint32_t kSmallFramesMax = 16;  // In a row, before space counts more than time.

std::string EncodeHeader(const SegmentHeader& header) {
  std::string bytes(kHeaderBytes, '\0');
  base::StoreLittle(&bytes[kHeaderVersion], kFormatVersion);
  base::StoreLittle(&bytes[kHeaderNumber], header.number);
  std::memcpy(&bytes[kHeaderSpool], header.spool.data(), header.spool.size());
  base::StoreLittle(&bytes[kHeaderFirst], header.first_commit.value());
  base::StoreLittle(&bytes[kHeaderPieces], header.state_pieces);
  base::StoreLittle(&bytes[kHeaderStreams], header.streams);
  base::StoreLittle(&bytes[kHeaderChecksum],
                    base::Crc32c(std::string_view(bytes).substr(0, kHeaderChecksum)));
  return bytes;
}

base::Result<SegmentHeader> DecodeHeader(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || base::LoadLittle<uint32_t>(&bytes[kHeaderChecksum]) !=
                                         base::Crc32c(bytes.substr(0, kHeaderChecksum)))
    return base::Unexpected(base::Code::kCorrupt, "the segment's header is damaged");
  const auto version = base::LoadLittle<uint32_t>(&bytes[kHeaderVersion]);
  if (version != kFormatVersion)
    return base::Unexpected(base::Code::kInvalid,
                            "the segment has format " + std::to_string(version) +
                                ", which this program does not know; use a newer Holdfast");
  SegmentHeader header;
  header.number = base::LoadLittle<uint64_t>(&bytes[kHeaderNumber]);
  std::memcpy(header.spool.data(), &bytes[kHeaderSpool], header.spool.size());
  header.first_commit = CommitNumber(base::LoadLittle<uint64_t>(&bytes[kHeaderFirst]));
  header.state_pieces = base::LoadLittle<uint32_t>(&bytes[kHeaderPieces]);
  header.streams = base::LoadLittle<uint32_t>(&bytes[kHeaderStreams]);
  return header;
}

// A value with its CRC in front.
base::Result<void> AppendSummed(lmdb::WriteTransaction& transaction, lmdb::Database database,
                                uint64_t key, std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(
      const std::span<char> out,
      transaction.Append(database, lmdb::IntegerKey(key).view(), kChecksumBytes + bytes.size()));
  base::StoreLittle(out.data(), base::Crc32c(bytes));
  if (!bytes.empty()) std::memcpy(out.data() + kChecksumBytes, bytes.data(), bytes.size());
  return {};
}

base::Result<std::string_view> GetSummed(const lmdb::ReadTransaction& transaction,
                                         lmdb::Database database, uint64_t key) {
  HF_ASSIGN_OR_RETURN(const std::optional<std::string_view> value,
                      transaction.Get(database, lmdb::IntegerKey(key).view()));
  if (!value || value->size() < kChecksumBytes ||
      base::LoadLittle<uint32_t>(value->data()) != base::Crc32c(value->substr(kChecksumBytes)))
    return base::Unexpected(base::Code::kCorrupt,
                            "piece " + std::to_string(key) + " of the checkpoint is damaged");
  return value->substr(kChecksumBytes);
}

// A piece of an encrypted checkpoint is bound to the segment; it has a salt of its own.
std::string SealPiece(SegmentKey& key, const SegmentHeader& header, uint32_t piece,
                      std::string_view plain) {
  const Salt salt = NewSalt();
  std::string sealed(salt.begin(), salt.end());
  sealed.resize(salt.size() + plain.size() + kSealBytes);
  key.Seal(salt, piece, std::to_string(header.number), plain,
           std::span(sealed).subspan(salt.size()));
  return sealed;
}

base::Result<std::string_view> OpenPiece(const SegmentKey& key, const SegmentHeader& header,
                                         uint32_t piece, std::string_view sealed,
                                         std::string* plain) {
  Salt salt{};
  if (sealed.size() < salt.size())
    return base::Unexpected(base::Code::kCorrupt, "a piece of the checkpoint is too short");
  std::copy_n(sealed.begin(), salt.size(), salt.begin());
  HF_RETURN_IF_ERROR(
      key.Open(salt, piece, std::to_string(header.number), sealed.substr(salt.size()), plain));
  return std::string_view(*plain);
}

std::vector<std::string> EncodeEnds(const State& state) {
  std::vector<std::string> blocks;
  for (size_t i = 0; i < state.streams().size(); ++i) {
    if (i % kEndsPerBlock == 0) blocks.emplace_back();
    const StreamState& stream = state.streams()[i];
    char bytes[kEndBytes];
    base::StoreLittle(bytes, stream.end);
    base::StoreLittle(bytes + sizeof(int64_t), stream.max_timestamp_ms);
    blocks.back().append(bytes, sizeof bytes);
  }
  return blocks;
}

}  // namespace

namespace {

// An empty environment with all databases, not flushed.
base::Result<std::unique_ptr<lmdb::Environment>> CreateEmpty(const std::string& path,
                                                             uint64_t bytes) {
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
  HF_RETURN_IF_ERROR(transaction.Commit());
  return environment;
}

// What CreateEmpty writes: meta pages and the tree of databases.
base::Result<std::string> EmptyPages(const std::string& scratch, uint64_t bytes) {
  base::Result<std::string> pages = [&]() -> base::Result<std::string> {
    HF_ASSIGN_OR_RETURN(const auto environment, CreateEmpty(scratch, bytes));
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
                                                              uint64_t bytes) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return base::Unexpected(base::ErrnoError(path + ": cannot remove", errno));
  HF_RETURN_IF_ERROR(CreateEmpty(path, bytes));
  return Open(path, lmdb::Access::kBuild, {});
}

base::Result<void> SegmentFile::Create(const std::string& path, uint64_t bytes) {
  HF_ASSIGN_OR_RETURN(const auto environment, CreateEmpty(path, bytes));
  // With its blocks taken now, a segment cannot run into a full disk later. Where the file system
  // cannot do that, the file grows as it is written.
  if (fallocate(environment->file_descriptor(), 0, 0, static_cast<off_t>(bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS)
    return base::Unexpected(base::ErrnoError(
        path + ": cannot allocate " + std::to_string(bytes >> 20) + " MiB", errno));
  return environment->Sync();
}

base::Result<std::shared_ptr<SegmentFile>> SegmentFile::Open(const std::string& path,
                                                             lmdb::Access access,
                                                             const KeyRing& keys) {
  HF_ASSIGN_OR_RETURN(auto environment, lmdb::Environment::Open(path, access, 0));
  struct stat info {};
  if (fstat(environment->file_descriptor(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot ask for its size", errno));
  // Beyond the file's end the map cannot even be read without a signal.
  const uint64_t used_bytes = environment->used_pages() * environment->page_bytes();
  if (static_cast<uint64_t>(info.st_size) < used_bytes)
    return base::Unexpected(base::Code::kCorrupt,
                            path + ": cut off at " + std::to_string(info.st_size) + " of " +
                                std::to_string(used_bytes) + " bytes; restore it, or move it away");
  std::shared_ptr<SegmentFile> file(new SegmentFile(std::move(environment)));
  HF_RETURN_IF_ERROR(file->OpenDatabases());
  HF_ASSIGN_OR_RETURN(const auto transaction, file->BeginRead());
  HF_RETURN_IF_ERROR(file->ReadHeader(transaction, keys));
  return file;
}

base::Result<std::shared_ptr<SegmentFile>> SegmentFile::Observe(const std::string& path,
                                                                const KeyRing& keys) {
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
  // was imported; and where there is none we must not make one.
  const std::string lock_path = path + "-lock";
  for (;;) {
    const bool locked = access(lock_path.c_str(), F_OK) == 0;
    auto file = Open(path, locked ? lmdb::Access::kObserve : lmdb::Access::kRead, keys);
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
  return transaction.KeepHandles();
}

base::Result<void> SegmentFile::ReadHeader(const lmdb::ReadTransaction& transaction,
                                           const KeyRing& keys) {
  HF_ASSIGN_OR_RETURN(const auto value, transaction.Get(meta_, kHeaderKey));
  if (!value) return {};
  base::Result<SegmentHeader> header = DecodeHeader(*value);
  if (!header) return base::Unexpected(Within(header.error()));
  header_ = *header;
  HF_ASSIGN_OR_RETURN(const auto sealed, transaction.Get(meta_, kSealedKey));
  sealed_ = sealed.has_value();
  HF_ASSIGN_OR_RETURN(const auto wrapped, transaction.Get(meta_, kDataKeyKey));
  if (!wrapped) return {};
  base::Result<std::shared_ptr<SegmentKey>> key = SegmentKey::Unwrap(keys, *wrapped);
  if (!key) return base::Unexpected(Within(key.error()));
  key_ = *std::move(key);
  return {};
}

base::Result<void> SegmentFile::Begin(SegmentHeader header, const State& state,
                                      const std::string& segments,
                                      std::shared_ptr<SegmentKey> key) {
  HF_CHECK(!header_);
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  std::vector<std::string> pieces = state.Checkpoint(kPieceBytes);
  pieces.back() += segments;
  for (uint32_t i = 0; i < pieces.size(); ++i)
    HF_RETURN_IF_ERROR(AppendSummed(transaction, state_, i,
                                    key ? SealPiece(*key, header, i, pieces[i]) : pieces[i]));
  const std::vector<std::string> blocks = EncodeEnds(state);
  for (size_t i = 0; i < blocks.size(); ++i)
    HF_RETURN_IF_ERROR(AppendSummed(transaction, ends_, i, blocks[i]));
  header.state_pieces = static_cast<uint32_t>(pieces.size());
  header.streams = static_cast<uint32_t>(state.streams().size());
  if (key) HF_RETURN_IF_ERROR(transaction.Put(meta_, kDataKeyKey, key->wrapped()));
  HF_RETURN_IF_ERROR(transaction.Put(meta_, kHeaderKey, EncodeHeader(header)));
  HF_RETURN_IF_ERROR(transaction.Commit());
  HF_RETURN_IF_ERROR(Sync());
  header_ = header;
  key_ = std::move(key);
  return {};
}

base::Result<void> SegmentFile::Append(FrameDraft draft) {
  draft.key = key_.get();
  HF_RETURN_IF_ERROR(KeepContiguous(draft.FrameBytes()));
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  HF_ASSIGN_OR_RETURN(const std::span<char> out,
                      transaction.Append(frames_, lmdb::IntegerKey(draft.commit.value()).view(),
                                         draft.FrameBytes()));
  EncodeFrame(draft, out);
  HF_RETURN_IF_ERROR(transaction.Commit());
  const base::MutexLock lock(mutex_);
  verified_.resize(draft.commit.value() - header_->first_commit.value() + 1);
  verified_.back() = true;  // We wrote it.
  return {};
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

base::Result<void> SegmentFile::SyncInherited() { return environment_->SyncInherited(); }

base::Result<void> SegmentFile::Seal(const MemoryIndex& index) {
  oldest_reader_.reset();
  HF_ASSIGN_OR_RETURN(auto transaction, lmdb::WriteTransaction::Begin(*environment_));
  const auto write = [&](StreamId stream, const std::vector<Place>& places) -> base::Result<void> {
    for (size_t i = 0; i < places.size(); i += kPlacesPerBlock) {
      const std::string block = PackBlock(&places[i], std::min(kPlacesPerBlock, places.size() - i));
      HF_ASSIGN_OR_RETURN(
          const std::span<char> out,
          transaction.Append(streams_, BlockKey(stream, places[i].base_offset), block.size()));
      std::memcpy(out.data(), block.data(), block.size());
    }
    return {};
  };
  HF_RETURN_IF_ERROR(index.ForEach(write));
  HF_RETURN_IF_ERROR(transaction.Put(meta_, kSealedKey, std::to_string(index.entries())));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return Sync();
}

base::Result<void> SegmentFile::CutOff() {
  const auto bytes = static_cast<off_t>(environment_->used_pages() * environment_->page_bytes());
  if (ftruncate(environment_->file_descriptor(), bytes) != 0)
    return base::Unexpected(base::ErrnoError(environment_->path() + ": cannot cut off", errno));
  return Sync();
}

uint64_t SegmentFile::RoomBytes(const MemoryIndex& index) const {
  const uint64_t page = environment_->page_bytes();
  // Blocks are at most some ten bytes a place, and a page holds several; streams with few entries
  // pay for key and node.
  const uint64_t index_bytes = index.entries() * 16 + index.streams() * 64;
  const uint64_t reserved = environment_->used_pages() + index_bytes / page + 2 * kPagesPerCommit;
  if (reserved >= environment_->map_pages()) return 0;
  return (environment_->map_pages() - reserved) * page - kOverflowHeaderBytes;
}

uint64_t SegmentFile::map_bytes() const {
  return environment_->map_pages() * environment_->page_bytes();
}

base::Result<void> SegmentFile::ReadCheckpoint(
    const std::function<base::Result<void>(const Change&)>& visit) {
  HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
  for (uint32_t i = 0; i < header_->state_pieces; ++i) {
    base::Result<std::string_view> piece = GetSummed(transaction, state_, i);
    std::string plain;
    if (piece && key_) piece = OpenPiece(*key_, *header_, i, *piece, &plain);
    if (!piece) return base::Unexpected(Within(piece.error()));
    ChangeReader reader(*piece);
    Change change;
    while (reader.Next(&change)) HF_RETURN_IF_ERROR(visit(change));
    if (!reader.AtEnd())
      return base::Unexpected(
          Within({base::Code::kCorrupt, "the checkpoint holds what is not a change of state"}));
  }
  return {};
}

base::Result<void> SegmentFile::WalkFrames(CommitNumber end, const FrameVisitor& visit,
                                           const DamageVisitor& damaged) {
  HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, frames_));
  CommitNumber expected = header_->first_commit;
  HF_ASSIGN_OR_RETURN(bool more, cursor.SeekAtOrAfter(lmdb::IntegerKey(expected.value()).view()));
  while (more) {
    const auto commit = CommitNumber(base::LoadLittle<uint64_t>(cursor.key().data()));
    if (commit >= end) break;
    for (; expected < commit; expected = expected.next())
      damaged(expected, {base::Code::kCorrupt, "missing frame"});
    const auto frame =
        Frame(transaction, static_cast<uint32_t>(commit.value() - header_->first_commit.value()));
    if (!frame) {
      damaged(commit, frame.error());
    } else {
      HF_RETURN_IF_ERROR(visit(*frame));
    }
    expected = commit.next();
    HF_ASSIGN_OR_RETURN(more, cursor.Next());
  }
  return {};
}

base::Result<lmdb::ReadTransaction> SegmentFile::BeginRead() const {
  return lmdb::ReadTransaction::Begin(*environment_);
}

base::Result<CommitNumber> SegmentFile::LastCommit(const lmdb::ReadTransaction& transaction) const {
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, frames_));
  HF_ASSIGN_OR_RETURN(const bool any, cursor.Last());
  if (!any) return CommitNumber(header_->first_commit.value() - 1);
  return CommitNumber(base::LoadLittle<uint64_t>(cursor.key().data()));
}

base::Result<StreamEnd> SegmentFile::EndAtBeginning(const lmdb::ReadTransaction& transaction,
                                                    StreamId stream) const {
  if (stream.value() >= header_->streams) return StreamEnd{};
  const base::Result<std::string_view> block =
      GetSummed(transaction, ends_, stream.value() / kEndsPerBlock);
  if (!block) return base::Unexpected(Within(block.error()));
  const size_t at = stream.value() % kEndsPerBlock * kEndBytes;
  if (at + kEndBytes > block->size())
    return base::Unexpected(Within({base::Code::kCorrupt, "a block of stream ends is too short"}));
  return StreamEnd{base::LoadLittle<int64_t>(block->data() + at),
                   base::LoadLittle<int64_t>(block->data() + at + sizeof(int64_t))};
}

base::Result<void> SegmentFile::FindPlaces(const lmdb::ReadTransaction& transaction,
                                           StreamId stream, int64_t from, size_t limit,
                                           CommitNumber end, std::vector<Place>* out) {
  if (sealed_) return FindSealedPlaces(transaction, stream, from, limit, out);
  HF_ASSIGN_OR_RETURN(const auto index, RebuiltIndex(end));
  index->Find(stream, from, limit, out);
  return {};
}

base::Result<void> SegmentFile::FindSealedPlaces(const lmdb::ReadTransaction& transaction,
                                                 StreamId stream, int64_t from, size_t limit,
                                                 std::vector<Place>* out) const {
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, streams_));
  // The block before the first one that begins behind `from`, if it is of this stream.
  StreamId found;
  int64_t base_offset = 0;
  HF_ASSIGN_OR_RETURN(bool more, cursor.SeekAtOrAfter(BlockKey(stream, from + 1)));
  HF_ASSIGN_OR_RETURN(const bool before, more ? cursor.Previous() : cursor.Last());
  if (before && ParseBlockKey(cursor.key(), &found, &base_offset) && found == stream) {
    more = true;
  } else {
    HF_ASSIGN_OR_RETURN(more, cursor.SeekAtOrAfter(BlockKey(stream, from + 1)));
  }
  std::vector<Place> places;
  const size_t wanted = limit + kPlacesPerBlock;  // The first block may begin long before `from`.
  while (more && places.size() < wanted) {
    if (!ParseBlockKey(cursor.key(), &found, &base_offset) || found != stream) break;
    if (auto result = UnpackBlock(cursor.value(), base_offset, &places); !result)
      return base::Unexpected(Within(result.error()));
    HF_ASSIGN_OR_RETURN(more, cursor.Next());
  }
  auto first =
      std::upper_bound(places.begin(), places.end(), from,
                       [](int64_t offset, const Place& p) { return offset < p.base_offset; });
  if (first != places.begin()) --first;
  const size_t count = std::min(limit, static_cast<size_t>(places.end() - first));
  out->insert(out->end(), first, first + static_cast<ptrdiff_t>(count));
  return {};
}

base::Result<std::shared_ptr<const MemoryIndex>> SegmentFile::RebuiltIndex(CommitNumber end) {
  {
    const base::MutexLock lock(mutex_);
    if (rebuilt_) return rebuilt_;
  }
  const auto index = std::make_shared<MemoryIndex>();
  const auto add = [&](const FrameView& frame) -> base::Result<void> {
    const uint64_t number = frame.commit().value() - header_->first_commit.value();
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      index->Add(info.stream,
                 {info.base_offset, info.max_timestamp_ms, static_cast<uint32_t>(number), line});
    }
    return {};
  };
  HF_RETURN_IF_ERROR(WalkFrames(end, add, [](CommitNumber, const base::Error&) {}));
  const base::MutexLock lock(mutex_);
  if (!rebuilt_) rebuilt_ = index;
  return rebuilt_;
}

base::Result<FrameView> SegmentFile::Frame(const lmdb::ReadTransaction& transaction,
                                           uint32_t frame) {
  const CommitNumber commit(header_->first_commit.value() + frame);
  HF_ASSIGN_OR_RETURN(const auto bytes,
                      transaction.Get(frames_, lmdb::IntegerKey(commit.value()).view()));
  const auto within = [&](base::Error error) {
    return Within(std::move(error).Within("commit " + std::to_string(commit.value())));
  };
  if (!bytes) return base::Unexpected(within({base::Code::kNotFound, "missing frame"}));
  base::Result<FrameView> view = FrameView::Parse(*bytes);
  if (!view) return base::Unexpected(within(view.error()));
  {
    const base::MutexLock lock(mutex_);
    if (frame < verified_.size() && verified_[frame]) return view;
  }
  if (auto verified = view->Verify(commit); !verified)
    return base::Unexpected(within(verified.error()));
  const base::MutexLock lock(mutex_);
  if (verified_.size() <= frame) verified_.resize(size_t{frame} + 1);
  verified_[frame] = true;
  return view;
}

base::Error SegmentFile::Within(base::Error error) const {
  return std::move(error).Within(environment_->path());
}

}  // namespace holdfast::spool
