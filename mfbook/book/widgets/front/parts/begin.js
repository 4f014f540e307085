"use strict";
// What explorers are: a title, a question, and how they begin.

mflive.explorers = {};
