#include "bench/client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/endian.h"

namespace holdfast::bench {

int Connect(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) Die("\"" + address + "\" is not HOST:PORT");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.substr(0, colon).c_str(), address.substr(colon + 1).c_str(), &hints,
                  &found) != 0) {
    Die("cannot resolve " + address);
  }
  const int fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
  if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0)
    Die("cannot connect to " + address);
  freeaddrinfo(found);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) Die("the server closed the connection");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

std::string ReadFrame(int fd) {
  auto read_exactly = [fd](size_t size) {
    std::string bytes(size, '\0');
    for (size_t at = 0; at < size;) {
      const ssize_t n = recv(fd, bytes.data() + at, size - at, 0);
      if (n <= 0) Die("the server closed the connection");
      at += static_cast<size_t>(n);
    }
    return bytes;
  };
  return read_exactly(base::LoadBig<uint32_t>(read_exactly(4).data()));
}

}  // namespace holdfast::bench
