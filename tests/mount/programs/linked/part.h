int Total(int number);
