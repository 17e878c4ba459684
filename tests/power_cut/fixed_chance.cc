// What the spool asks the system for by chance is always the same here, so that a case comes to the
// same bytes whenever it is run. The linker puts this before the function of base (--wrap).
#include "base/random.h"

namespace holdfast::power_cut {

base::Random FixedChance() __asm__("__wrap__ZN8holdfast4base6Random10FromSystemEv");
base::Random FixedChance() { return base::Random(7); }

}  // namespace holdfast::power_cut
