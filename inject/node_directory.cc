#include "inject/node_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::inject {
namespace {

// Closes what it has.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

// Through descriptors, and never through a symbolic link: others may write to the node's disk.
base::Result<void> MakeFolder(int parent, const std::string& directory, const char* name,
                              uid_t user, mode_t mode) {
  const std::string path = directory + "/" + name;
  const auto failed = [&path](const char* what) {
    return base::Unexpected(base::ErrnoError(std::string(what) + " " + path, errno));
  };
  if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST) return failed("cannot make");
  const Descriptor folder(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (folder.get() < 0) return failed("cannot open");
  if (fchown(folder.get(), user, user) != 0) return failed("cannot change the owner of");
  if (fchmod(folder.get(), mode) != 0) return failed("cannot change the mode of");
  return {};
}

}  // namespace

base::Result<void> PrepareNode(const std::string& directory, uid_t user) {
  const Descriptor parent(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() < 0)
    return base::Unexpected(base::ErrnoError("cannot open " + directory, errno));
  HF_RETURN_IF_ERROR(MakeFolder(parent.get(), directory, "node", user, 0700));
  // The kubelet makes folders of root in it, which its owner may remove in spite of the sticky bit.
  return MakeFolder(parent.get(), directory, "pods", user, 01777);
}

}  // namespace holdfast::inject
