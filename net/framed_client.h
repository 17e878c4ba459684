// An outgoing connection with the framing of net/framed_server.h.
//
//   client_ = std::make_unique<net::FramedClient>(loop, resolver, metrics, options,
//       net::FramedClient::Callbacks{.on_connected = ..., .on_frame = ..., .on_closed = ...});
//
// It resolves, connects, and tells. Of a name's addresses it takes the first that answers, in the
// resolver's order; one that stays silent keeps the others waiting for its share of the time only.
// It never connects again: the owner makes a new client, with the backoff that suits it.
//
// Ownership: loop, resolver and metrics outlive it. It may be destroyed from inside its callbacks.
// Threads: everything on the loop's thread.
// Shutdown: the destructor and Close close at once, drop what is queued, and no callback follows;
//   the callbacks themselves are destroyed at the end of the turn. After its loop has ended, it may
//   be destroyed from any thread.
// Limits: an answer longer than frame_bytes_max closes the connection, unless it is taken in
//   pieces. Send always takes the frame: the owner stops at on_output_high and goes on at
//   on_output_low.
#pragma once

#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "metrics/catalogue.h"
#include "net/address.h"
#include "net/event_loop.h"
#include "net/pipe.h"
#include "net/tls.h"

namespace holdfast::net {

class FramedClient {
 public:
  struct Options {
    HostPort peer = {};
    size_t frame_bytes_max = 104857600;
    size_t output_bytes_high = size_t{1} << 20;
    // For name, connection and TLS handshake together. While more addresses are left, one gets what
    // remains divided by their number, its own included, but a quarter of it at least.
    base::Duration connect_timeout = std::chrono::seconds(10);
    // A longer frame may be taken in pieces of this size, see Callbacks.
    size_t piece_bytes = std::numeric_limits<size_t>::max();
    int receive_buffer_bytes = 0;  // Of the kernel; 0 leaves its automatic choice.
    int send_buffer_bytes = 0;
    // In TLS, with a peer whose certificate is that of peer.host. None: in the clear.
    std::shared_ptr<const TlsContext> tls = nullptr;
  };
  struct Callbacks {
    base::UniqueFunction<void()> on_connected = {};
    // The frame without its length.
    base::UniqueFunction<void(base::Buffer)> on_frame = {};
    // A frame of so many bytes, more than piece_bytes, begins. True: on_piece gets it bit by bit
    // with the number of bytes that are still to come, and on_frame does not. Optional.
    base::UniqueFunction<bool(size_t, std::string_view)> takes_pieces = {};
    base::UniqueFunction<void(base::Buffer, size_t)> on_piece = {};
    // How many bytes of such a frame behind the last piece nobody needs to see: some may come with
    // on_piped, which never has the last of the frame. Optional.
    base::UniqueFunction<size_t()> opaque_bytes = {};
    base::UniqueFunction<void(Piped, size_t)> on_piped = {};
    // Once, and nothing after it: not resolved, refused, timed out, reset, closed by the peer,
    // broken framing, or no agreement in TLS (kInvalid). The message names the peer.
    base::UniqueFunction<void(base::Error)> on_closed = {};
    // After writing, more than output_bytes_high is left; no more than half of it is left again.
    // In turns, and never before the connection stands. Optional.
    base::UniqueFunction<void()> on_output_high = {};
    base::UniqueFunction<void()> on_output_low = {};
  };

  // Begins to connect. Callbacks come in later turns, never from inside the constructor.
  FramedClient(EventLoop& loop, Resolver& resolver, metrics::NetMetrics& metrics, Options options,
               Callbacks callbacks);
  ~FramedClient();
  FramedClient(const FramedClient&) = delete;
  FramedClient& operator=(const FramedClient&) = delete;

  // A whole frame, the 4 bytes of its length included. Before the connection stands it waits;
  // after on_closed or Close it is dropped.
  void Send(base::Buffer frame);
  void Send(std::vector<base::Buffer> pieces);
  // A frame without its length, which is put before it.
  void SendBody(base::Buffer body);

  // No on_frame comes between Pause and Resume; the peer is slowed down by TCP.
  void Pause();
  void Resume();
  void Close();

  [[nodiscard]] bool connected() const;
  // When the last byte came, or the connection was made. An owner that waits for an answer and
  // hears nothing for too long closes: packets may be dropped without a reset.
  [[nodiscard]] base::TimePoint last_heard() const;
  [[nodiscard]] const HostPort& peer() const;
  // The connection's address on this side; only while connected.
  [[nodiscard]] SocketAddress local() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;  // Lives on to the end of the turn in which it is let go.
};

}  // namespace holdfast::net
