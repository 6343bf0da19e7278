def compiler_problem(): return None
def header_problem(): return None
