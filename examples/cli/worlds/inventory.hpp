// SPDX-License-Identifier: MIT
/// The words that worlds are made of. Lists share no word with each other: what a word is decides what it can answer.
#pragma once

#include <string_view>

namespace worlds {

inline constexpr std::string_view women[] = {
    "Ada",   "Agnes",  "Alma",  "Anna",  "Asta",   "Berta", "Birgit", "Cara",  "Clara", "Dagny", "Dora", "Edith", "Ella",
    "Elsa",  "Emma",   "Erna",  "Frida", "Gerda",  "Greta", "Hanna",  "Hedda", "Helga", "Ida",   "Inga", "Irma",  "Jana",
    "Karin", "Laura",  "Lena",  "Linda", "Lotte",  "Magda", "Maria",  "Marta", "Mina",  "Mira",  "Nora", "Olga",  "Petra",
    "Rita",  "Ronja",  "Rosa",  "Sara",  "Selma",  "Signe", "Stella", "Tilda", "Ursula", "Vera", "Wilma"};

inline constexpr std::string_view men[] = {
    "Abel",  "Adam",  "Albert", "Anton", "Arne",  "Arthur", "Bernard", "Boris", "Bruno", "Carl",  "Casper", "Conrad", "David",
    "Edgar", "Emil",  "Eric",   "Felix", "Frank", "Georg",  "Gustav",  "Hans",  "Harald", "Henry", "Hugo",  "Igor",   "Ivan",
    "Jacob", "Jonas", "Karl",   "Kurt",  "Leo",   "Ludwig", "Magnus",  "Martin", "Max",  "Moritz", "Nils",  "Oscar",  "Otto",
    "Paul",  "Peter", "Ralf",   "Robert", "Rolf", "Simon",  "Sven",    "Thomas", "Victor", "Walter", "Yuri"};

inline constexpr std::string_view places[] = {
    "Ashby",  "Barrow", "Bexley",  "Brill",  "Calder", "Corby",  "Dale",   "Denham", "Dorn",   "Drayton", "Dunmore", "Eldon",
    "Elmswick", "Fairholm", "Farley", "Fenwick", "Galway", "Garth", "Glenford", "Grimsby", "Halden", "Harlow", "Hexham", "Holt",
    "Ilford", "Kell",   "Kelso",   "Kirby",  "Langley", "Larne", "Linton", "Lorne",  "Malden", "Marlow",  "Melrose", "Milburn",
    "Morley", "Naseby", "Norwell", "Oakham", "Orrin",  "Oxley",  "Penrith", "Quill", "Radnor", "Redmoor", "Ripley",  "Rothby",
    "Selby",  "Skelton", "Stroud", "Tarn",   "Thorne", "Tilbury", "Ulster", "Varn",  "Walden", "Whitby",  "Wick",    "Yarrow"};

/// What is sold, bought, and what a town is known for: each stands after "sells" and after "its".
inline constexpr std::string_view goods[] = {
    "ale",     "amber",   "apples",  "arrows",  "bacon",   "barley",  "baskets", "beans",   "beer",    "berries",
    "biscuits", "blankets", "boats",  "boots",   "bread",   "bricks",  "brooms",  "butter",  "cabbage", "cakes",
    "candles", "carpets", "charcoal", "cheese", "cherries", "cider",  "clay",    "clocks",  "cloth",   "coal",
    "copper",  "cotton",  "cream",   "feathers", "figs",   "fish",    "flax",    "flour",   "flowers", "furs",
    "garlic",  "ginger",  "glass",   "gloves",  "grapes",  "hats",    "hay",     "honey",   "ink",     "iron",
    "jam",     "knives",  "lace",    "lamps",   "lead",    "leather", "lemons",  "linen",   "maps",    "marble",
    "milk",    "mustard", "nails",   "needles", "nuts",    "oats",    "oil",     "onions",  "paint",   "paper",
    "pearls",  "pears",   "pepper",  "pots",    "ribbons", "rice",    "rope",    "saddles", "salt",    "silk"};

inline constexpr std::string_view trades[] = {
    "baker",   "barber",  "beggar",   "brewer",  "butcher",  "captain", "carpenter", "clerk",   "cobbler", "cook",
    "cooper",  "doctor",  "farmer",   "ferryman", "fiddler", "gardener", "glazier",  "guard",   "healer",  "hunter",
    "judge",   "juggler", "mason",    "miller",  "miner",    "painter", "piper",     "porter",  "potter",  "sailor",
    "scribe",  "shepherd", "singer",  "smith",   "soldier",  "tailor",  "tanner",    "teacher", "thatcher", "weaver"};

/// Things of which a world has one.
inline constexpr std::string_view things[] = {
    "anchor",  "axe",    "banner", "bell",    "book",   "bowl",   "bracelet", "chain",  "chest",  "coat",
    "coin",    "compass", "crown", "cup",     "dagger", "diary",  "drum",     "flute",  "harp",   "helmet",
    "jewel",   "key",    "kettle", "lantern", "letter", "mask",   "medal",    "mirror", "necklace", "ring",
    "shield",  "spear",  "statue", "sword",   "trumpet", "vase",  "violin",   "watch",  "whistle", "wheel"};

inline constexpr std::string_view animals[] = {"bees",  "calves", "cats",  "cows",   "dogs",  "donkeys", "doves", "ducks",
                                               "geese", "goats",  "hens",  "horses", "lambs", "mules",   "oxen",  "pigs",
                                               "ponies", "rabbits", "sheep", "swans"};

inline constexpr std::string_view buildings[] = {"bridges", "chapels", "fountains", "gates",   "inns",  "markets",
                                                 "mills",   "schools", "shops",     "squares", "towers", "wells"};

inline constexpr std::string_view numbers[] = {"two",  "three", "four",   "five",     "six",     "seven",   "eight",  "nine",
                                               "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "twenty", "thirty"};

inline constexpr std::string_view months[] = {"January", "February", "March",     "April",   "May",      "June",
                                              "July",    "August",   "September", "October", "November", "December"};

}  // namespace worlds
