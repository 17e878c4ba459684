// Bytes on the heap with one owner: a request as it came from the socket, a response on its way
// out.
//
// Ownership: move-only. Views into it stay valid while it is moved, since the bytes do not move. On
//   its way out a buffer may hold the owner of its bytes instead: it shares them as long as it
//   likes, or borrows them for a short time, until Own copies them and lets the owner go. Such
//   bytes are read only. What is attached to a buffer goes with its bytes, copied or not.
// Contents are uninitialised when made with a size: the reader of a socket overwrites them anyway.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace holdfast::base {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size)
      : owned_(std::make_unique_for_overwrite<char[]>(size)), data_(owned_.get()), size_(size) {}
  static Buffer Copy(std::string_view bytes) {
    Buffer buffer(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return buffer;
  }
  static Buffer Share(std::string_view bytes, std::shared_ptr<const void> owner) {
    Buffer buffer;
    buffer.data_ = bytes.data();
    buffer.size_ = bytes.size();
    buffer.owner_ = std::move(owner);
    return buffer;
  }
  static Buffer Borrow(std::string_view bytes, std::shared_ptr<const void> owner) {
    Buffer buffer = Share(bytes, std::move(owner));
    buffer.borrowed_ = true;
    return buffer;
  }
  Buffer(Buffer&& other) noexcept
      : owned_(std::move(other.owned_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        owner_(std::move(other.owner_)),
        attached_(std::move(other.attached_)),
        borrowed_(std::exchange(other.borrowed_, false)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    owned_ = std::move(other.owned_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    owner_ = std::move(other.owner_);
    attached_ = std::move(other.attached_);
    borrowed_ = std::exchange(other.borrowed_, false);
    return *this;
  }

  [[nodiscard]] bool shared() const { return owner_ != nullptr && !borrowed_; }
  [[nodiscard]] bool borrowed() const { return borrowed_; }
  void Own() {
    if (!borrowed_) return;
    Buffer copy = Copy(view());
    copy.attached_ = std::move(attached_);
    *this = std::move(copy);
  }
  void Attach(std::shared_ptr<const void> attached) { attached_ = std::move(attached); }

  // Forgets the bytes from `size` on.
  void Truncate(size_t size) {
    if (size < size_) size_ = size;
  }

  // To be written to; null if somebody else owns the bytes.
  [[nodiscard]] char* data() { return owned_.get(); }
  [[nodiscard]] const char* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::string_view view() const { return {data_, size_}; }
  [[nodiscard]] std::span<char> span() { return {owned_.get(), size_}; }

 private:
  std::unique_ptr<char[]> owned_;
  const char* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<const void> owner_;  // Of what is shared or borrowed.
  std::shared_ptr<const void> attached_;
  bool borrowed_ = false;
};

}  // namespace holdfast::base
