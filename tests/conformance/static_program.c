// A static program: arguments, memory of its own, a thread, its status.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local int own = 5;
static void* thread(void* arg) {
  own++;
  *(int*)arg = own;
  return NULL;
}

int main(int argc, char** argv) {
  char* block = malloc(1 << 20);
  if (block == NULL) return 1;
  memset(block, argc, 1 << 20);
  pthread_t t;
  int result = 0;
  if (pthread_create(&t, NULL, thread, &result) != 0) return 2;
  pthread_join(t, NULL);
  printf("%d %d %d %d\n", argc, argv[0] != NULL, block[12345], own * 10 + result);
  free(block);
  return 7;
}
