#include "spool/page_check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace holdfast::spool {
namespace {

// --- LMDB's layout, native byte order.

struct PageHeader {
  uint64_t number;
  uint16_t pad;
  uint16_t flags;
  uint16_t lower;  // End of the node pointers; in an overflow page, with `upper`: pages of the run.
  uint16_t upper;  // Begin of the nodes.
};
constexpr size_t kPageHeaderBytes = 16;
static_assert(sizeof(PageHeader) == kPageHeaderBytes);
constexpr uint16_t kBranch = 0x01;
constexpr uint16_t kLeaf = 0x02;
constexpr uint16_t kOverflow = 0x04;
constexpr uint16_t kMeta = 0x08;

struct NodeHeader {
  uint16_t low;  // Of the value's size, or of a child's page number.
  uint16_t high;
  uint16_t flags;  // In a branch: the page number's highest bits.
  uint16_t key_bytes;
};
constexpr size_t kNodeHeaderBytes = 8;
static_assert(sizeof(NodeHeader) == kNodeHeaderBytes);
constexpr uint16_t kOverflowValue = 0x01;  // The value is in pages of its own.
constexpr uint16_t kDatabaseValue = 0x02;

struct Tree {
  uint32_t pad;  // Page size, in the first of a meta page.
  uint16_t flags;
  uint16_t depth;
  uint64_t branch_pages;
  uint64_t leaf_pages;
  uint64_t overflow_pages;
  uint64_t entries;
  uint64_t root;
};
constexpr uint64_t kNoRoot = UINT64_MAX;
constexpr uint16_t kIntegerKeys = 0x08;

struct Meta {
  uint32_t magic;
  uint32_t version;
  uint64_t address;
  uint64_t map_bytes;
  Tree free;
  Tree main;
  uint64_t last_page;
  uint64_t transaction;
};
static_assert(sizeof(Meta) == 136);
constexpr uint32_t kMagic = 0xBEEFC0DE;
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMetaPages = 2;

// --- What this program puts into it.

constexpr size_t kPageBytesMin = 4096;
constexpr size_t kPageBytesMax = 32768;
constexpr uint16_t kDepthMax = 16;
struct Expected {
  std::string_view name;
  uint16_t flags;
};
constexpr std::array<Expected, 6> kSegmentDatabases = {{{"ends", kIntegerKeys},
                                                        {"frames", kIntegerKeys},
                                                        {"meta", 0},
                                                        {"runs", kIntegerKeys},
                                                        {"state", kIntegerKeys},
                                                        {"streams", 0}}};
constexpr std::string_view kOptional = "runs";  // Of a segment that is ordered by stream.
// Those to which each transaction but the first adds one entry.
constexpr std::array<std::string_view, 3> kCounted = {"frames", "meta", "runs"};

template <class T>
T Load(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

tl::unexpected<base::Error> Damaged(std::string what) {
  return base::Unexpected(base::Code::kCorrupt, std::move(what));
}

tl::unexpected<base::Error> DamagedPage(uint64_t page, const char* what) {
  return Damaged("page " + std::to_string(page) + ": " + what);
}

class Checker {
 public:
  Checker(std::string_view file, std::optional<uint64_t> observed)
      : file_(file), observed_(observed) {}
  // Notes where frames are, but for those in pages that `but`, if any, uses, too. Before Run.
  void NoteFrames(const Checker* but) {
    note_frames_ = true;
    but_ = but;
  }

  // The one that is the newest, if the two meta pages are of two in turn.
  base::Result<uint64_t> NewestTransaction();

  base::Result<void> Run() {
    HF_RETURN_IF_ERROR(CheckMetas());
    HF_RETURN_IF_ERROR(CheckTree(meta_.main, 0, Holds::kDatabases));
    if (databases_.size() + (databases_.contains(kOptional) ? 0 : 1) != kSegmentDatabases.size())
      return Damaged("not the databases of a segment");
    for (const auto& [name, tree] : databases_)
      HF_RETURN_IF_ERROR(
          CheckTree(tree, tree.flags, name == "frames" ? Holds::kFrames : Holds::kValues));
    HF_RETURN_IF_ERROR(CheckTree(meta_.free, kIntegerKeys, Holds::kFreePages));
    if (used_pages_ != meta_.last_page + 1 - kMetaPages)
      return Damaged("some pages are neither used nor free");
    if (meta_.transaction != CountTransactions())
      return Damaged("its transaction is not the one of its contents");
    if (frames_begin_ && frames_end_ - *frames_begin_ != databases_["frames"].entries)
      return Damaged("some frames are missing");
    return observed_ ? base::Result<void>{} : CheckOther();
  }

  // As far as Run has come: nothing if it has not met the database.
  [[nodiscard]] uint64_t EntriesOf(std::string_view database) const {
    const auto found = databases_.find(database);
    return found == databases_.end() ? 0 : found->second.entries;
  }
  // That there have been, by what the databases hold.
  [[nodiscard]] uint64_t CountTransactions() const {
    uint64_t count = 1;
    for (const std::string_view name : kCounted) count += EntriesOf(name);
    return count;
  }
  [[nodiscard]] uint64_t frames_end() const { return frames_end_; }
  [[nodiscard]] const FramePlaces& frames() const { return frames_; }
  [[nodiscard]] uint64_t end_page() const { return used_.size(); }
  // By the tree, not as a free one.
  [[nodiscard]] bool Uses(uint64_t page) const {
    return page < used_.size() && used_[page] == Use::kTree;
  }

 private:
  enum class Use : uint8_t { kNone, kTree, kFree };
  enum class Holds : uint8_t { kValues, kFrames, kDatabases, kFreePages };
  struct Node {
    uint64_t child = 0;
    uint16_t flags = 0;
    std::string_view key;
    std::string_view value;    // If it is in this page.
    uint64_t value_bytes = 0;  // Wherever it is.
    uint64_t value_page = 0;   // If it has pages of its own.
  };
  // The walk of one tree, in order of keys.
  struct Walk {
    Tree seen{};
    uint16_t flags = 0;
    Holds holds = Holds::kValues;
    uint16_t depth = 0;
    std::optional<std::string_view> last_key;
    std::optional<std::string_view> bound;  // The next key is not below.
  };

  base::Result<Meta> ReadMeta(uint64_t page);
  base::Result<void> ReadMetas(Meta* even, Meta* odd);
  base::Result<void> CheckMetas();
  base::Result<void> CheckOther();
  base::Result<void> CheckTree(const Tree& tree, uint16_t flags, Holds holds);
  base::Result<void> WalkPage(uint64_t number, uint16_t depth, Walk* walk);
  base::Result<void> WalkLeafNode(uint64_t number, const Node& node, Walk* walk);
  base::Result<void> TakeDatabase(uint64_t number, const Node& node);
  base::Result<void> TakeFreePages(uint64_t number, const Node& node, std::string_view value);
  base::Result<std::vector<Node>> ReadNodes(uint64_t number, bool leaf) const;
  base::Result<void> CheckKey(uint64_t number, std::string_view key, Walk* walk);
  base::Result<void> Mark(uint64_t first, uint64_t count, Use use = Use::kTree);
  [[nodiscard]] std::string_view Page(uint64_t number) const {
    return file_.substr(number * page_bytes_, page_bytes_);
  }
  [[nodiscard]] uint64_t OverflowPages(uint64_t bytes) const {
    return (kPageHeaderBytes + bytes + page_bytes_ - 1) / page_bytes_;
  }
  static int Compare(std::string_view a, std::string_view b, uint16_t flags) {
    if ((flags & kIntegerKeys) == 0) return a.compare(b);
    const auto x = Load<uint64_t>(a, 0);
    const auto y = Load<uint64_t>(b, 0);
    return x < y ? -1 : x > y ? 1 : 0;
  }

  const std::string_view file_;
  const std::optional<uint64_t> observed_;
  bool note_frames_ = false;
  const Checker* but_ = nullptr;
  size_t page_bytes_ = 0;
  Meta meta_{};   // The newest.
  Meta other_{};  // The one before it.
  uint64_t used_pages_ = 0;
  std::optional<uint64_t> frames_begin_;
  uint64_t frames_end_ = 0;
  FramePlaces frames_;  // Those to be noted.
  std::vector<Use> used_;
  std::map<std::string_view, Tree> databases_;
};

base::Result<Meta> Checker::ReadMeta(uint64_t page) {
  const auto header = Load<PageHeader>(file_, page * page_bytes_);
  const auto meta = Load<Meta>(file_, page * page_bytes_ + kPageHeaderBytes);
  if (header.number != page || header.flags != kMeta) return DamagedPage(page, "no meta page");
  if (meta.magic != kMagic || meta.version != kVersion || meta.address != 0 ||
      meta.free.pad != page_bytes_)
    return DamagedPage(page, "damaged meta page");
  return meta;
}

base::Result<void> Checker::ReadMetas(Meta* even, Meta* odd) {
  // Where the second one stands follows from the first; either must say the same.
  if (file_.size() < 2 * kPageBytesMin) return Damaged("the file is cut off");
  page_bytes_ = Load<Meta>(file_, kPageHeaderBytes).free.pad;
  if (page_bytes_ < kPageBytesMin || page_bytes_ > kPageBytesMax ||
      (page_bytes_ & (page_bytes_ - 1)) != 0 || file_.size() < kMetaPages * page_bytes_)
    return DamagedPage(0, "damaged meta page");
  HF_ASSIGN_OR_RETURN(*even, ReadMeta(0));
  HF_ASSIGN_OR_RETURN(*odd, ReadMeta(1));
  return {};
}

// A transaction writes the meta page of its parity.
base::Result<uint64_t> Checker::NewestTransaction() {
  Meta even;
  Meta odd;
  HF_RETURN_IF_ERROR(ReadMetas(&even, &odd));
  const uint64_t newest = std::max(even.transaction, odd.transaction);
  if (even.transaction % 2 != 0 || odd.transaction % 2 != 1 ||
      newest != std::min(even.transaction, odd.transaction) + 1)
    return Damaged("its meta pages are not of two transactions in turn");
  return newest;
}

base::Result<void> Checker::CheckMetas() {
  Meta even;
  Meta odd;
  HF_RETURN_IF_ERROR(ReadMetas(&even, &odd));
  if (even.map_bytes != odd.map_bytes || even.free.flags != odd.free.flags)
    return Damaged("its meta pages do not agree");
  if (observed_) {
    meta_ = *observed_ % 2 == 0 ? even : odd;
    if (meta_.transaction != *observed_) return Damaged("its meta pages change too fast");
  } else {
    HF_RETURN_IF_ERROR(NewestTransaction());
    meta_ = even.transaction > odd.transaction ? even : odd;
    other_ = even.transaction > odd.transaction ? odd : even;
  }
  const uint64_t pages = meta_.map_bytes / page_bytes_;
  if (meta_.map_bytes % page_bytes_ != 0 || meta_.main.flags != 0 || meta_.main.pad != 0 ||
      meta_.last_page >= pages || meta_.last_page < 1)
    return Damaged("its newest meta page is damaged");
  if (meta_.last_page >= file_.size() / page_bytes_)
    return Damaged("cut off at " + std::to_string(file_.size()) + " of " +
                   std::to_string((meta_.last_page + 1) * page_bytes_) + " bytes");
  used_.resize(meta_.last_page + 1);
  return {};
}

// If the id of the newest meta page is damaged so that it looks older, the other one has taken its
// place by now, and this is one transaction ahead of it. Its tree is whole then. If it is indeed
// the older one its pages may be in use again, by the transaction after the next. And after a
// failed write of a meta page LMDB takes back id and last page, but not the roots.
base::Result<void> Checker::CheckOther() {
  if (other_.last_page < meta_.last_page) return {};
  if (other_.main.root < kMetaPages || other_.main.root >= file_.size() / page_bytes_) return {};
  if (Load<PageHeader>(Page(other_.main.root), 0).flags != kLeaf) return {};
  const base::Result<std::vector<Node>> nodes = ReadNodes(other_.main.root, true);
  if (!nodes) return {};
  uint64_t transaction = 1;
  for (const Node& node : *nodes) {
    if (std::find(kCounted.begin(), kCounted.end(), node.key) != kCounted.end() &&
        node.value.size() == sizeof(Tree))
      transaction += Load<Tree>(node.value, 0).entries;
  }
  if (transaction == meta_.transaction + 1)
    return Damaged("the meta page of its newest transaction is damaged");
  return {};
}

base::Result<void> Checker::CheckTree(const Tree& tree, uint16_t flags, Holds holds) {
  Walk walk;
  walk.flags = flags;
  walk.holds = holds;
  walk.depth = tree.depth;
  walk.seen.root = tree.root;
  if (tree.root != kNoRoot) {
    if (tree.depth == 0 || tree.depth > kDepthMax) return Damaged("a tree of impossible depth");
    HF_RETURN_IF_ERROR(WalkPage(tree.root, 1, &walk));
  } else if (tree.depth != 0) {
    return Damaged("a tree without a root");
  }
  if (walk.seen.branch_pages != tree.branch_pages || walk.seen.leaf_pages != tree.leaf_pages ||
      walk.seen.overflow_pages != tree.overflow_pages || walk.seen.entries != tree.entries)
    return Damaged("a tree does not hold what it should");
  return {};
}

base::Result<void> Checker::WalkPage(uint64_t number, uint16_t depth, Walk* walk) {
  HF_RETURN_IF_ERROR(Mark(number, 1));
  const auto header = Load<PageHeader>(Page(number), 0);
  const bool leaf = depth == walk->depth;
  if (header.number != number || header.flags != (leaf ? kLeaf : kBranch))
    return DamagedPage(number, "not the page it should be");
  HF_ASSIGN_OR_RETURN(const std::vector<Node> nodes, ReadNodes(number, leaf));
  ++(leaf ? walk->seen.leaf_pages : walk->seen.branch_pages);
  // LMDB asks for two children, but of its free pages' tree.
  if (!leaf && nodes.size() < 2 && walk->holds != Holds::kFreePages)
    return DamagedPage(number, "a branch without children");
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (leaf) {
      HF_RETURN_IF_ERROR(CheckKey(number, nodes[i].key, walk));
      HF_RETURN_IF_ERROR(WalkLeafNode(number, nodes[i], walk));
      continue;
    }
    // The first child takes all that is below the second's key.
    if (i > 0) {
      HF_RETURN_IF_ERROR(CheckKey(number, nodes[i].key, walk));
      walk->last_key.reset();
      walk->bound = nodes[i].key;
    }
    HF_RETURN_IF_ERROR(WalkPage(nodes[i].child, static_cast<uint16_t>(depth + 1), walk));
  }
  return {};
}

base::Result<void> Checker::CheckKey(uint64_t number, std::string_view key, Walk* walk) {
  if ((walk->flags & kIntegerKeys) != 0 && key.size() != sizeof(uint64_t))
    return DamagedPage(number, "a key of another size");
  if ((walk->last_key && Compare(key, *walk->last_key, walk->flags) <= 0) ||
      (walk->bound && Compare(key, *walk->bound, walk->flags) < 0))
    return DamagedPage(number, "keys out of order");
  walk->last_key = key;
  return {};
}

base::Result<void> Checker::WalkLeafNode(uint64_t number, const Node& node, Walk* walk) {
  ++walk->seen.entries;
  const bool database = walk->holds == Holds::kDatabases;
  if ((node.flags & ~kOverflowValue) != (database ? kDatabaseValue : 0))
    return DamagedPage(number, "a value of an unknown kind");
  std::string_view value = node.value;
  if ((node.flags & kOverflowValue) != 0) {
    const uint64_t pages = OverflowPages(node.value_bytes);
    HF_RETURN_IF_ERROR(Mark(node.value_page, pages));
    walk->seen.overflow_pages += pages;
    // LMDB goes by its header when it frees such a value, and only these are ever freed.
    const auto header = Load<PageHeader>(Page(node.value_page), 0);
    if (walk->holds == Holds::kFreePages &&
        (header.number != node.value_page || header.flags != kOverflow ||
         (header.lower | uint64_t{header.upper} << 16) != pages))
      return DamagedPage(node.value_page, "not the page it should be");
    value = file_.substr(node.value_page * page_bytes_ + kPageHeaderBytes, node.value_bytes);
  }
  if (walk->holds == Holds::kFrames) {
    frames_end_ = Load<uint64_t>(node.key, 0) + 1;
    if (!frames_begin_) frames_begin_ = frames_end_ - 1;
    const uint64_t at = value.empty() ? 0 : value.data() - file_.data();
    if (note_frames_ && (but_ == nullptr || (at != 0 && !but_->Uses(at / page_bytes_))))
      frames_.emplace_hint(frames_.end(), frames_end_ - 1, at);
  }
  if (database) return TakeDatabase(number, node);
  if (walk->holds == Holds::kFreePages) return TakeFreePages(number, node, value);
  return {};
}

base::Result<void> Checker::TakeDatabase(uint64_t number, const Node& node) {
  const auto* expected = std::find_if(kSegmentDatabases.begin(), kSegmentDatabases.end(),
                                      [&](const Expected& each) { return each.name == node.key; });
  if (expected == kSegmentDatabases.end() || node.value.size() != sizeof(Tree))
    return DamagedPage(number, "not a database of a segment");
  const auto tree = Load<Tree>(node.value, 0);
  if (tree.pad != 0 || tree.flags != expected->flags)
    return DamagedPage(number, "a damaged database record");
  databases_.emplace(expected->name, tree);
  return {};
}

// A count, and the pages' numbers in falling order.
base::Result<void> Checker::TakeFreePages(uint64_t number, const Node& node,
                                          std::string_view value) {
  constexpr size_t kNumberBytes = sizeof(uint64_t);
  if (Load<uint64_t>(node.key, 0) > meta_.transaction || value.size() < kNumberBytes ||
      value.size() % kNumberBytes != 0 ||
      Load<uint64_t>(value, 0) > value.size() / kNumberBytes - 1)
    return DamagedPage(number, "a damaged list of free pages");
  uint64_t last = UINT64_MAX;
  for (uint64_t i = 1; i <= Load<uint64_t>(value, 0); ++i) {
    const auto page = Load<uint64_t>(value, i * kNumberBytes);
    if (page >= last) return DamagedPage(number, "free pages out of order");
    HF_RETURN_IF_ERROR(Mark(page, 1, Use::kFree));
    last = page;
  }
  return {};
}

base::Result<std::vector<Checker::Node>> Checker::ReadNodes(uint64_t number, bool leaf) const {
  const std::string_view page = Page(number);
  const auto header = Load<PageHeader>(page, 0);
  if (header.lower <= kPageHeaderBytes || header.lower % 2 != 0 || header.lower > header.upper ||
      header.upper > page.size())
    return DamagedPage(number, "damaged page header");
  std::vector<Node> nodes((header.lower - kPageHeaderBytes) / 2);
  std::vector<std::pair<size_t, size_t>> extents;  // From, to.
  extents.reserve(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    Node& node = nodes[i];
    const size_t at = Load<uint16_t>(page, kPageHeaderBytes + 2 * i);
    if (at < header.upper || at % 2 != 0 || at + kNodeHeaderBytes > page.size())
      return DamagedPage(number, "a node outside the page");
    const auto head = Load<NodeHeader>(page, at);
    node.flags = head.flags;
    size_t end = at + kNodeHeaderBytes + head.key_bytes;
    const uint64_t low = head.low | uint64_t{head.high} << 16;
    if (!leaf) {
      node.child = low | uint64_t{head.flags} << 32;
    } else if ((head.flags & kOverflowValue) != 0) {
      node.value_bytes = low;
      if (end + sizeof(uint64_t) > page.size())
        return DamagedPage(number, "a node outside the page");
      node.value_page = Load<uint64_t>(page, end);
      end += sizeof(uint64_t);
    } else {
      node.value_bytes = low;
      if (end + low > page.size()) return DamagedPage(number, "a node outside the page");
      node.value = page.substr(end, low);
      end += low;
    }
    if (end > page.size()) return DamagedPage(number, "a node outside the page");
    node.key = page.substr(at + kNodeHeaderBytes, head.key_bytes);
    extents.emplace_back(at, end + end % 2);
  }
  // Nodes fill the page from its end without gaps; LMDB adds the next one below the lowest.
  std::sort(extents.begin(), extents.end());
  size_t expected = header.upper;
  for (const auto& [from, to] : extents) {
    if (from != expected) return DamagedPage(number, "nodes do not fill their place");
    expected = to;
  }
  if (expected != page.size()) return DamagedPage(number, "nodes do not fill their place");
  return nodes;
}

base::Result<void> Checker::Mark(uint64_t first, uint64_t count, Use use) {
  if (first < kMetaPages || first > meta_.last_page || count > meta_.last_page - first + 1)
    return DamagedPage(first, "outside the file");
  for (uint64_t page = first; page < first + count; ++page) {
    if (used_[page] != Use::kNone) return DamagedPage(page, "used twice");
    used_[page] = use;
  }
  used_pages_ += count;
  return {};
}

}  // namespace

base::Result<uint64_t> CheckPages(std::string_view file, std::optional<uint64_t> observed) {
  Checker checker(file, observed);
  HF_RETURN_IF_ERROR(checker.Run());
  return checker.frames_end();
}

FramePlaces FramesWrittenByCommit(std::string_view file, uint64_t transaction) {
  Checker before(file, transaction - 1);
  Checker with(file, transaction);
  with.NoteFrames(&before);
  if (!before.Run() || !with.Run()) return {};
  return with.frames();
}

std::optional<FramePlaces> FramesBeforeNewestCommit(std::string_view file) {
  const base::Result<uint64_t> newest = Checker(file, {}).NewestTransaction();
  if (!newest) return std::nullopt;
  Checker before(file, *newest - 1);
  before.NoteFrames(nullptr);
  if (!before.Run()) return std::nullopt;
  // With its header, and not sealed; nor is that what the newest did, as far as its databases tell.
  // What stands in their place of the file's earlier life does not fit its number.
  Checker torn(file, *newest);
  (void)torn.Run();
  const bool told = torn.CountTransactions() == *newest;
  if (before.EntriesOf("meta") != 1 ||
      (told && (torn.EntriesOf("meta") > 1 || torn.EntriesOf("streams") != 0)))
    return std::nullopt;
  return before.frames();
}

std::vector<uint64_t> PagesOfNewestCommit(std::string_view file) {
  std::vector<uint64_t> pages;
  const base::Result<uint64_t> newest = Checker(file, {}).NewestTransaction();
  Checker with(file, newest ? *newest : 0);
  if (!newest || !with.Run()) return pages;
  Checker before(file, *newest - 1);
  const bool known = before.Run().has_value();
  for (uint64_t page = kMetaPages; page < with.end_page(); ++page)
    if (with.Uses(page) && !(known && before.Uses(page))) pages.push_back(page);
  return pages;
}

}  // namespace holdfast::spool
