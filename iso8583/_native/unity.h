/* The C core as part of the extension's own translation unit: the compiler sees through every call
 * from the skin into the core, which is worth a third of the instructions of a decode, without
 * link-time optimization. */
#include "bitmap.c"
#include "build.c"
#include "charset.c"
#include "content.c"
#include "digits.c"
#include "index.c"
#include "length.c"
#include "plan.c"
#include "spec.c"
#include "status.c"
#include "tlv.c"
#include "value.c"
