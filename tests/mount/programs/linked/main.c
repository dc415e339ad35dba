#include <stdio.h>

#include "part.h"

int main(void) {
  printf("total %d\n", Total(3));
  return 0;
}
