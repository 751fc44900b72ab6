#include "signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

static volatile sig_atomic_t stop_asked, interrupted;

static void on_signal(int number) {
    if (number == SIGINT && interrupted)
        _exit(EXIT_INTERRUPTED);
    if (number == SIGINT)
        interrupted = 1;
    stop_asked = 1;
}

void signals_catch(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}

bool signals_stop(void) {
    return stop_asked != 0;
}
