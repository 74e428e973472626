from mixops import *
