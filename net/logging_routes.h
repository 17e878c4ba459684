// The admin routes that say and change, while the process runs, what is written to the log:
//
//   GET  /logging                            the level of each part
//   POST /logging?level=debug                of all parts
//   POST /logging?forward=debug&net=warn     of some
//
// What is set lasts until the process ends or reads its configuration anew, which has the level of
// all parts (`log.level`).
#pragma once

#include <vector>

#include "net/admin_server.h"

namespace holdfast::net {

void AddLoggingRoutes(std::vector<AdminRoute>* routes);

}  // namespace holdfast::net
