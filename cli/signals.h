/* SIGINT, SIGTERM and SIGUSR1 ask a run to save and stop; a second SIGINT ends the program at
 * once. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <stdbool.h>

void signals_catch(void);
bool signals_stop(void); /* one has come */

#endif
