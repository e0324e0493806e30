// What every page does beyond plain HTML. Each page works without it.
import "./forms.js";
import "./keys.js";
import "./list.js";
import "./live.js";
