#include "broker/fetch_session.h"

#include <limits>

#include "base/check.h"
#include "broker/fetch.h"

namespace holdfast::broker {

int32_t NextSessionEpoch(int32_t epoch) {
  if (epoch < 0) return kSessionEnds;
  return epoch == std::numeric_limits<int32_t>::max() ? 1 : epoch + 1;
}

int32_t FetchSessionCache::Open(FetchHandler& owner, size_t partitions, base::TimePoint now) {
  int32_t id = 0;
  int32_t evicted = 0;
  FetchHandler* evicted_owner = nullptr;
  {
    const base::MutexLock lock(mutex_);
    if (sessions_.size() >= slots_) {
      evicted = FindEvictable(partitions, now);
      if (evicted == 0) return 0;
      const auto found = sessions_.find(evicted);
      evicted_owner = found->second.owner;
      Remove(found);
      metrics_.fetch_session_evictions.Add();
    }
    while (id == 0 || sessions_.contains(id)) {
      id = static_cast<int32_t>(random_.Below(std::numeric_limits<int32_t>::max()));
    }
    by_use_.push_back(id);
    sessions_.emplace(id, Entry{&owner, partitions, now, now, std::prev(by_use_.end())});
    partitions_ += partitions;
    Report();
  }
  if (evicted_owner != nullptr) evicted_owner->OnEvicted(evicted);
  return id;
}

int32_t FetchSessionCache::FindEvictable(size_t partitions, base::TimePoint now) const {
  if (by_use_.empty()) return 0;
  if (now - sessions_.at(by_use_.front()).used > kUnusedMin) return by_use_.front();
  if (by_size_.empty() || by_size_.begin()->first >= partitions) return 0;
  return by_size_.begin()->second;
}

FetchHandler* FetchSessionCache::FindOwner(int32_t id) const {
  const base::MutexLock lock(mutex_);
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.owner;
}

void FetchSessionCache::Touch(int32_t id, size_t partitions, base::TimePoint now) {
  const base::MutexLock lock(mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;  // Evicted meanwhile.
  Entry& entry = found->second;
  by_size_.erase({entry.partitions, id});
  partitions_ += partitions - entry.partitions;
  entry.partitions = partitions;
  entry.used = now;
  by_use_.splice(by_use_.end(), by_use_, entry.in_order);
  if (now - entry.created > kUnusedMin) by_size_.emplace(partitions, id);
  Report();
}

FetchHandler* FetchSessionCache::Close(int32_t id) {
  const base::MutexLock lock(mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return nullptr;
  FetchHandler* const owner = found->second.owner;
  Remove(found);
  Report();
  return owner;
}

void FetchSessionCache::Remove(std::unordered_map<int32_t, Entry>::iterator found) {
  const Entry& entry = found->second;
  by_use_.erase(entry.in_order);
  by_size_.erase({entry.partitions, found->first});
  partitions_ -= entry.partitions;
  sessions_.erase(found);
}

void FetchSessionCache::Report() {
  metrics_.fetch_sessions.Set(static_cast<double>(sessions_.size()));
  metrics_.fetch_session_partitions.Set(static_cast<double>(partitions_));
}

// The bit is set before the partition is looked at, and the writer stores its news before it looks
// at the bit.
void Watches::Add(Watch& watch) {
  Watch*& first = first_[watch.partition->stream];
  if (first == nullptr) watch.partition->waiting_workers.fetch_or(worker_bit_);
  watch.previous = nullptr;
  watch.next = first;
  if (first != nullptr) first->previous = &watch;
  first = &watch;
}

void Watches::Remove(Watch& watch) {
  if (watch.next != nullptr) watch.next->previous = watch.previous;
  if (watch.previous != nullptr) {
    watch.previous->next = watch.next;
  } else if (watch.next != nullptr) {
    first_[watch.partition->stream] = watch.next;
  } else {
    first_.erase(watch.partition->stream);
    watch.partition->waiting_workers.fetch_and(~worker_bit_);
  }
  watch.previous = watch.next = nullptr;
}

Watch* Watches::First(spool::StreamId stream) const {
  const auto found = first_.find(stream);
  return found == first_.end() ? nullptr : found->second;
}

FetchSession::~FetchSession() {
  for (Partitions* partitions : {&ready_, &idle_}) {
    for (SessionPartition& partition : *partitions) Resolve(partition, nullptr);
  }
}

std::string FetchSession::KeyOf(std::string_view name, const kafka::Uuid& topic_id) const {
  return by_topic_id ? std::string(topic_id.bytes.begin(), topic_id.bytes.end())
                     : std::string(name);
}

SessionPartition& FetchSession::Put(const kafka::FetchRequest::FetchTopic& topic,
                                    const kafka::FetchRequest::FetchPartition& partition) {
  SessionTopic& of = topics_[KeyOf(topic.topic, topic.topic_id)];
  if (of.partitions.empty()) {
    of.name = topic.topic;
    of.id = topic.topic_id;
  }
  const auto [found, added] = of.partitions.try_emplace(partition.partition);
  if (added) {
    SessionPartition& made = ready_.emplace_back();
    made.session = this;
    made.topic = &of;
    made.index = partition.partition;
    made.ready = true;
    found->second = std::prev(ready_.end());
  }
  SessionPartition& put = *found->second;
  put.offset = put.counted_to = partition.fetch_offset;
  put.bytes_max = partition.partition_max_bytes;
  put.leader_epoch = partition.current_leader_epoch;
  MarkReady(put);
  return put;
}

void FetchSession::Forget(const kafka::FetchRequest::ForgottenTopic& topic, int32_t partition) {
  const auto of = topics_.find(KeyOf(topic.topic, topic.topic_id));
  if (of == topics_.end()) return;
  const auto found = of->second.partitions.find(partition);
  if (found == of->second.partitions.end()) return;
  const Partitions::iterator forgotten = found->second;
  Resolve(*forgotten, nullptr);
  (forgotten->ready ? ready_ : idle_).erase(forgotten);
  of->second.partitions.erase(found);
  if (of->second.partitions.empty()) topics_.erase(of);
}

void FetchSession::Resolve(SessionPartition& partition, Partition* found) {
  if (partition.partition == found) return;
  if (partition.partition != nullptr) watches_.Remove(partition);
  partition.partition = found;
  if (found != nullptr) watches_.Add(partition);
}

FetchSession::Partitions::iterator FetchSession::IteratorOf(
    const SessionPartition& partition) const {
  return partition.topic->partitions.at(partition.index);
}

void FetchSession::MarkReady(SessionPartition& partition) {
  if (std::exchange(partition.ready, true)) return;
  ready_.splice(ready_.end(), idle_, IteratorOf(partition));
}

void FetchSession::MarkAllReady() {
  for (SessionPartition& partition : idle_) partition.ready = true;
  ready_.splice(ready_.end(), idle_);
}

FetchSession::Partitions::iterator FetchSession::MarkIdle(Partitions::iterator partition) {
  partition->ready = false;
  partition->counted_to = partition->offset;
  const auto next = std::next(partition);
  idle_.splice(idle_.end(), ready_, partition);
  return next;
}

void FetchSession::MoveBack(SessionPartition& partition) {
  ready_.splice(ready_.end(), ready_, IteratorOf(partition));
}

}  // namespace holdfast::broker
