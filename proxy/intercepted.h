// Takes the place of a reply: looks at the answer, and passes it on if there is somebody to pass it
// on to. It is taken whole, so this is not for answers with records.
//
// Threads: the connection's loop.
#pragma once

#include <vector>

#include "base/buffer.h"
#include "base/unique_function.h"
#include "net/reply.h"

namespace holdfast::proxy {

// Lives until the answer; there is one, maybe in parts.
class Intercepted final : public net::ReplySink {
 public:
  // What is sent in place of the frame, both without their lengths. Empty if there was none; for an
  // empty one the connection is closed.
  using Look = base::UniqueFunction<base::Buffer(base::Buffer frame)>;

  static net::Reply Make(net::Reply reply, Look look) {
    return {new Intercepted(std::move(reply), std::move(look)), 0, 0};
  }

  void Complete(uint64_t connection, uint64_t request, net::Answer answer) override;

 private:
  Intercepted(net::Reply reply, Look look) : reply_(std::move(reply)), look_(std::move(look)) {}

  [[nodiscard]] base::Buffer Body() const;
  void Send(base::Buffer body);

  net::Reply reply_;
  Look look_;
  std::vector<base::Buffer> pieces_;
};

base::Buffer WithoutLength(const base::Buffer& frame);

}  // namespace holdfast::proxy
