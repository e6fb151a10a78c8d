/* Every function of the 2.40 list but C_Initialize, C_Finalize and C_GetFunctionList, as one table. */
#ifndef ABI_EVERY_CALL_H
#define ABI_EVERY_CALL_H

#include "abi.h"

struct call {
    const char *name;
    CK_RV (*run)(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_SLOT_ID slot);
};

/* With sound arguments besides the three handles; ended by a NULL name. */
extern const struct call slot_calls[], session_calls[];

#endif
