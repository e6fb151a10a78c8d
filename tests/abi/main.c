/* transcript MODULE [TOPIC...]: what a module answers, step by step. See abi.h.
 *
 * Wants a fresh token: its label in KEYWAY_TOKEN, its PINs in KEYWAY_PIN and KEYWAY_SO_PIN.
 */
#include "abi.h"

#include <stdio.h>
#include <stdlib.h>

/* tokens_topic comes last, for it re-initialises the token. */
static const struct topic *const topics[] = {
    &lifecycle_topic,  &forks_topic,      &arguments_topic,  &handles_topic,    &outputs_topic,
    &sequences_topic,  &objects_topic,    &attributes_topic, &mechanisms_topic, &generation_topic,
    &learning_topic,   &sizes_topic,      &threads_topic,    &surroundings_topic, &tokens_topic,
};

/* Not for comparison: their steps are checks that hold or do not. They run only when named. */
static const struct topic *const checks[] = {&interfaces_topic, &conduct_topic};

static const char *environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODULE [TOPIC...]\n", argv[0]);
        return 2;
    }
    module_path = argv[1];
    token_label = environment("KEYWAY_TOKEN", "keyway");
    user_pin = environment("KEYWAY_PIN", "12345678");
    so_pin = environment("KEYWAY_SO_PIN", "12345678");
    for (size_t i = 0; argc == 2 && i < COUNT(topics); i++)
        topic_run(topics[i]);
    for (int a = 2; a < argc; a++) {
        for (size_t i = 0; i < COUNT(topics); i++)
            if (strcmp(argv[a], topics[i]->name) == 0)
                topic_run(topics[i]);
        for (size_t i = 0; i < COUNT(checks); i++)
            if (strcmp(argv[a], checks[i]->name) == 0)
                topic_run(checks[i]);
    }
    return 0;
}
