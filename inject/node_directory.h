// The directory of a node that agents keep their spools in: `node`, of the node's own agent, and
// `pods`, where the kubelet makes a folder for each pod's agent, which that may write to.
//
// Threads: any. It is done as root, and can be done again.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace holdfast::inject {

// `directory` exists. `user`, whom agents run as, owns both folders: the node's agent removes those
// of pods that are gone.
base::Result<void> PrepareNode(const std::string& directory, uid_t user);

}  // namespace holdfast::inject
