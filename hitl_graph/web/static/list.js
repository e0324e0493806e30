// (list) filled below
