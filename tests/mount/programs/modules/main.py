import package.part

print(package.part.NAME)
