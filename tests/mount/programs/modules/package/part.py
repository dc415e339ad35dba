NAME = 'compiled'
