#include "tests/power_cut/name_history.h"

namespace holdfast::power_cut {

void NameHistory::Adopt(const std::string& name, ino_t inode) {
  flushed_.emplace(std::pmr::string(name, memory_), inode);
}

void NameHistory::Make(uint64_t change, const std::string& name, ino_t inode) {
  Change& made = changes_.emplace_back(change, memory_);
  made.to = name;
  made.inode = inode;
}

void NameHistory::Rename(uint64_t change, const std::string& from, const std::string& to,
                         ino_t inode) {
  Change& renamed = changes_.emplace_back(change, memory_);
  renamed.from = from;
  renamed.to = to;
  renamed.inode = inode;
}

void NameHistory::Remove(uint64_t change, const std::string& name) {
  changes_.emplace_back(change, memory_).from = name;
}

void NameHistory::Replace(ino_t inode, ino_t by) {
  for (auto& [name, known] : flushed_) known = known == inode ? by : known;
  for (Change& change : changes_) change.inode = change.inode == inode ? by : change.inode;
}

void NameHistory::Flushed() {
  const Names names = Now();
  flushed_.clear();
  for (const auto& [name, inode] : names) Adopt(name, inode);
  changes_.clear();
}

void NameHistory::Apply(const Change& change, Names* names) {
  if (!change.from.empty()) names->erase(std::string(change.from));
  if (!change.to.empty()) (*names)[std::string(change.to)] = change.inode;
}

NameHistory::Names NameHistory::Now() const {
  Names names(flushed_.begin(), flushed_.end());
  for (const Change& change : changes_) Apply(change, &names);
  return names;
}

NameHistory::Names NameHistory::AfterCut(const Dice& dice) const {
  Names names(flushed_.begin(), flushed_.end());
  // A journal keeps the order; POSIX promises none.
  const bool journal = dice.Below(5, 2) == 0;
  bool undone = false;
  for (const Change& change : changes_) {
    const bool survives = dice.Survives(change.number, 0);
    undone = undone || !survives;
    if (journal ? !undone : survives) Apply(change, &names);
  }
  return names;
}

}  // namespace holdfast::power_cut
